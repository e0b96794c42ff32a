//! A whole scheduler but for its process: the loop, its store, and a client of a test's master.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use calico_scheduler::config::Config;
use calico_scheduler::core::{Core, Settings, State, StateChange};
use calico_scheduler::driver::{Driver, Ended, Handle, SystemClock};
use calico_scheduler::mesos::Client;
use calico_scheduler::state::{Store, StoreError, Tenure};
use calico_scheduler::tasks::TaskTypes;
use mesos_v1::FrameworkInfo;
use tokio::task::JoinHandle;

use crate::environment::environment;

/// A store that may be told to fail.
#[derive(Debug, Clone, Default)]
pub struct TestStore(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    failing: bool,
    failures: usize,
    state: State,
}

impl TestStore {
    pub fn fail(&self, failing: bool) {
        self.0.lock().unwrap().failing = failing;
    }

    /// How many commits have failed.
    pub fn failures(&self) -> usize {
        self.0.lock().unwrap().failures
    }

    pub fn state(&self) -> State {
        self.0.lock().unwrap().state.clone()
    }
}

impl Store for TestStore {
    async fn commit(&mut self, changes: &[StateChange]) -> Result<(), StoreError> {
        let mut inner = self.0.lock().unwrap();
        if inner.failing && !changes.is_empty() {
            inner.failures += 1;
            let (path, source) = ("/store".into(), std::io::Error::other("told to fail"));
            return Err(StoreError::Io { what: "cannot write", path, source });
        }
        for change in changes {
            inner.state.apply(change.clone());
        }
        Ok(())
    }
}

/// Only `cluster-init` is wanted: one task in the whole cluster.
pub fn config() -> Config {
    let env = environment(&[
        ("CALICO_SERVICE_ROLE", "*"),
        ("CALICO_ETCD_PROXY", "direct"),
        ("CALICO_CNI_ENABLE", "false"),
        ("CALICO_NODE_ENABLE", "false"),
        ("CALICO_DOCKER_ENABLE", "false"),
        ("CALICO_LIBNETWORK_ENABLE", "false"),
    ]);
    Config::from_env(&env).unwrap()
}

/// Starts a loop that goes on from `state`, with the master at `authority`.
pub fn start(authority: &str, state: State) -> (TestStore, Handle, JoinHandle<Ended>) {
    start_with(&config(), authority, state)
}

/// The same, of a scheduler that is configured so.
pub fn start_with(config: &Config, authority: &str, state: State) -> (TestStore, Handle, JoinHandle<Ended>) {
    let store = TestStore::default();
    store.0.lock().unwrap().state = state.clone();
    let tasks = TaskTypes::new(config);
    let id = state.framework_id.as_ref().map(|id| id.0.as_str().into());
    let framework = FrameworkInfo { user: "root".into(), name: "calico".into(), id, ..Default::default() };
    let (driver, handle) = Driver::new(
        Core::new(Settings::new(tasks.specs()), state),
        (store.clone(), Tenure::endless()),
        tasks.into(),
        vec!["*".to_owned()],
        Duration::from_mins(1),
        Client::start(crate::named(authority), &crate::nobody(), framework, &Tenure::endless()),
        SystemClock,
    );
    (store, handle, tokio::spawn(driver.run()))
}
