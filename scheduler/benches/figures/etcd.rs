//! A real etcd, with its data in a folder of its own, as the machine's disk is. It ends when it is dropped.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use calico_scheduler::config::{Config, StateLocation};
use calico_scheduler::core::{State, StateChange};
use calico_scheduler::state::etcd::{Client, Kv as _, Range};
use calico_scheduler::state::{AnyStore, Opener, Store as _};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use crate::environment::environment;
use crate::process::cpu_of;

/// See above.
pub struct Etcd {
    child: Child,
    authority: String,
    _dir: TempDir,
}

impl Etcd {
    /// Starts the one that `ETCD_BINARY` names.
    pub async fn start() -> Self {
        let program = std::env::var_os("ETCD_BINARY").expect("ETCD_BINARY names etcd, as `make bench` does");
        let dir = tempfile::tempdir().unwrap();
        // Both are free at once, so they differ.
        let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [authority, peer] = free.map(|listener| listener.local_addr().unwrap().to_string());
        let (client, peer) = (format!("http://{authority}"), format!("http://{peer}"));
        let child = Command::new(program)
            .arg("--data-dir")
            .arg(dir.path())
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--log-level", "error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let etcd = Self { child, authority, _dir: dir };
        let started = Instant::now();
        while etcd.revision().await.is_none() {
            assert!(started.elapsed() < Duration::from_secs(30), "etcd does not start");
            sleep(Duration::from_millis(100)).await;
        }
        etcd
    }

    /// `service.state` for a scheduler with keys of its own.
    pub fn url(&self, prefix: &str) -> String {
        format!("etcd://{}/{prefix}", self.authority)
    }

    /// Its processor time.
    pub fn cpu(&self) -> Duration {
        cpu_of(&self.child.id().to_string())
    }

    /// Every transaction that writes raises it by one.
    pub async fn revision(&self) -> Option<i64> {
        let StateLocation::Etcd(location) = service(&self.url("any")).state else { return None };
        let asked = Client::new(location);
        let answer = timeout(Duration::from_secs(2), asked.range(Range::of("none".to_owned()))).await;
        Some(answer.ok()?.ok()?.header.revision)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn service(state: &str) -> calico_scheduler::config::Service {
    Config::from_env(&environment(&[("CALICO_SERVICE_STATE", state)])).unwrap().service
}

/// Leads, as a scheduler does, for as long as `act` takes.
pub async fn leading<R>(state: &str, act: impl AsyncFnOnce(&mut AnyStore) -> R) -> R {
    let mut opener = Opener::new(&service(state), "the benchmark");
    let mut tenure = opener.open(|_| {}).await.unwrap();
    let result = act(&mut tenure.store).await;
    drop(tenure);
    opener.resign().await;
    result
}

/// Stores these changes.
pub async fn store(state: &str, changes: &[StateChange]) {
    leading(state, async |store| store.commit(changes).await.unwrap()).await;
}

/// Everything, as changes.
pub fn changes(state: &State) -> Vec<StateChange> {
    let framework = state.framework_id.iter().map(|id| StateChange::Framework { id: id.clone() });
    let cluster = [StateChange::Cluster(state.cluster.clone().into())];
    framework.chain(cluster).chain(state.agents.values().cloned().map(StateChange::Agent)).collect()
}
