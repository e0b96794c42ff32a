//! A scheduler's process: a runtime of its own, whose clock is the simulation's. It dies by being dropped, at whatever
//! it awaits; it freezes by not being run, and finds its clock far ahead when it goes on.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use calico_scheduler::core::{Command, CommandError, View};
use calico_scheduler::driver::Handle;
use calico_scheduler::lead::{Ended, Program, Stage};
use calico_scheduler::state::etcd::Candidate;
use calico_scheduler::state::{Opener, Tenure};
use fake_master::Random;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::disk::{Disk, Mounted};
use crate::etcd;
use crate::link::Simulated;
use crate::wire::{Fuse, Posted, Skew, Wire};

/// `service.state`, when that is a file.
pub const STATE_FILE: &str = "/var/lib/calico/state.json";

/// Where state is.
#[derive(Clone)]
pub enum Place {
    Etcd,
    File(Disk),
}

/// See above.
pub struct Process {
    runtime: Runtime,
    wire: Wire,
    /// Its clock.
    now: Duration,
    main: Option<JoinHandle<Ended>>,
    leading: Arc<Mutex<Option<Handle>>>,
    pub name: String,
}

impl Process {
    pub fn start(
        (now, skew): (Duration, Skew),
        name: String,
        program: &Program,
        place: &Place,
        random: Random,
    ) -> Self {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let leading = Arc::default();
        let wire = {
            let _runtime = runtime.enter();
            Wire::new(now, skew)
        };
        let lead =
            lead(program.clone(), wire.clone(), name.clone(), random, Arc::clone(&leading), place.clone());
        let main = Some(runtime.spawn(lead));
        Self { runtime, wire, now, main, leading, name }
    }

    /// Runs until its clock shows `to`, or until it asks something of others.
    pub fn run_until(&mut self, to: Duration) -> Vec<Posted> {
        // What it was told is seen at once, also by one that is ahead.
        let to = self.wire.instant(to.max(self.now + Duration::from_millis(1)));
        let wire = self.wire.clone();
        self.now = self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = wire.posted() => {}
                () = tokio::time::sleep_until(to) => {}
            }
            wire.now()
        });
        self.wire.take()
    }

    /// It was frozen until now.
    pub fn thaw(&mut self, now: Duration) {
        if let Some(frozen) = now.checked_sub(self.now).filter(|frozen| !frozen.is_zero()) {
            self.runtime.block_on(tokio::time::advance(frozen));
            self.now = now;
        }
    }

    /// Its clock.
    pub fn now(&self) -> Duration {
        self.now
    }

    pub fn set_fuse(&self, fuse: Fuse) {
        self.wire.set_fuse(fuse);
    }

    /// Whether its fuse has burnt down.
    pub fn is_dead(&self) -> bool {
        self.wire.is_dead()
    }

    /// Why it has ended, if it has.
    pub fn exit(&mut self) -> Option<Ended> {
        let main = self.main.take_if(|main| main.is_finished())?;
        match self.runtime.block_on(main) {
            Ok(exit) => Some(exit),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// What its API would show; nothing while it does not lead.
    pub fn view(&mut self) -> Option<View> {
        let handle = self.leading.lock().unwrap().clone()?;
        self.runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(1), handle.view()).await.ok()? })
    }
}

impl Process {
    /// Commands something, of one that leads: where the answer will be. Nobody else holds it when none comes any more.
    pub fn command(&mut self, command: Command) -> Option<Answer> {
        let handle = self.leading.lock().unwrap().clone()?;
        let answer = Answer::default();
        let told = Arc::clone(&answer);
        self.runtime.spawn(async move {
            let answer = handle.command(command).await;
            *told.lock().unwrap() = answer;
        });
        Some(answer)
    }
}

/// What becomes of a command.
pub type Answer = Arc<Mutex<Option<Result<String, CommandError>>>>;

impl Drop for Process {
    fn drop(&mut self) {
        self.wire.kill();
    }
}

async fn lead(
    program: Program,
    wire: Wire,
    name: String,
    mut random: Random,
    leading: Arc<Mutex<Option<Handle>>>,
    place: Place,
) -> Ended {
    let mut store = match place {
        Place::Etcd => {
            let etcd = etcd::Client(wire.clone());
            Opener::in_etcd(Candidate::new(etcd, "/calico-dcos", "calico", &name))
        }
        Place::File(disk) => {
            Opener::in_file(STATE_FILE.into(), Arc::new(Mounted { disk, wire: wire.clone(), process: name }))
        }
    };
    let subscribe = |framework, tenure: &Tenure| {
        Simulated::start(wire.clone(), framework, tenure.clone(), Random::new(random.number()))
    };
    let tell = |stage: Stage<'_, Simulated>| {
        *leading.lock().unwrap() = match stage {
            Stage::Standby(_) => None,
            Stage::Leading(handle, _) => Some(handle),
        };
    };
    program.lead(&mut store, subscribe, wire.clone(), tell).await
}
