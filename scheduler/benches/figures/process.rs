//! The scheduler's own program, and what the kernel tells of it.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::cluster::WITHOUT_DOCKER;
use crate::environment::environment;

/// A running scheduler. It ends when it is dropped.
pub struct Scheduler {
    child: Child,
    /// When it was started.
    pub began: Instant,
}

impl Scheduler {
    /// Starts one for the master at `master`, whose state is at `state`. Settings of the allocator (`MALLOC_…`) are passed on,
    /// so that they can be tried.
    pub fn start(master: &str, state: &str) -> Self {
        let set = [
            // As what is stored was launched with: another target would be a rollout, and all agents' records written anew.
            WITHOUT_DOCKER[0],
            WITHOUT_DOCKER[1],
            ("CALICO_SERVICE_STATE", state),
            ("CALICO_MESOS_MASTER", master),
            ("CALICO_SERVICE_API_LISTEN", "127.0.0.1:0"),
            ("CALICO_SERVICE_LOG", "error"),
            // The stored state is old: it would begin with a round of looks.
            ("CALICO_VERIFY_INTERVAL", "0s"),
            // Ten thousand blocks and more.
            ("CALICO_NETWORK_POOL_CIDR", "172.16.0.0/12"),
        ];
        let began = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_calico-scheduler"));
        let allocator = std::env::vars().filter(|(name, _)| name.starts_with("MALLOC_"));
        let child = command.env_clear().envs(environment(&set)).envs(allocator).spawn().unwrap();
        Self { child, began }
    }

    /// Asks it to end, so that the next one leads at once, and waits until it has.
    pub fn end(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").arg(id).status().unwrap().success());
        self.child.wait().unwrap();
    }

    /// Resident memory in MB (2^20 bytes): now, and at most so far.
    pub fn memory(&self) -> (f64, f64) {
        memory_of(&self.child.id().to_string())
    }

    /// Its processor time.
    pub fn cpu(&self) -> Duration {
        cpu_of(&self.child.id().to_string())
    }
}

/// Resident memory of a process in MB (2^20 bytes): now, and at most so far.
pub fn memory_of(process: &str) -> (f64, f64) {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let megabytes = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    };
    (megabytes("VmRSS:"), megabytes("VmHWM:"))
}

/// Processor time of all threads of a process, to the nanosecond. Its threads live as long as it.
pub fn cpu_of(process: &str) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let spent = threads.map(|thread| {
        let text = std::fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|field| field.parse::<u64>().ok()).unwrap_or_default()
    });
    Duration::from_nanos(spent.sum())
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
