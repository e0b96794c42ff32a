//! Leading, again and again: each time with what is stored then, and a new mind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mesos_v1::FrameworkInfo;
use mesos_v1::framework_info::{Capability, capability};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::core::{Core, Definition, Reservations, Rollout, Settings, TargetHash};
use crate::driver::{self, Driver, Handle};
use crate::mesos::{ClientEvent, Link};
use crate::state::etcd::Kv;
use crate::state::{Opened, Opener, StoreError, Tenure};
use crate::tasks::TaskTypes;

/// What one that leads works by.
#[derive(Debug, Clone)]
pub struct Program {
    /// The core's. Whether it has its doubts is known when the state is loaded.
    pub settings: Settings,
    /// What is launched.
    pub tasks: Arc<TaskTypes>,
    /// Who we are towards the master; the ID is of what is stored.
    pub framework: FrameworkInfo,
    /// How often the list of agents is read.
    pub inventory_interval: Duration,
}

/// What one that wants to lead does.
#[derive(Debug)]
pub enum Stage<'a, L> {
    /// It waits to lead; for what.
    Standby(&'a str),
    /// It leads, with this loop and this way to the master.
    Leading(Handle, &'a L),
}

/// Why nobody leads here any more.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The state cannot be loaded, or is another's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The loop cannot go on.
    #[error(transparent)]
    Driver(#[from] driver::Ended),
}

impl Program {
    /// What `config` wants.
    pub fn new(config: &Config) -> Self {
        let tasks = Arc::new(TaskTypes::new(config));
        let settings = Settings {
            capacities: config.target.capacities(),
            exclude: config.agents.exclude.clone(),
            only: config.agents.only.clone(),
            reservations: Reservations {
                service: config.service.name.clone(),
                principal: config.mesos.identity.principal().map(str::to_owned),
                roles: config.service.reserve_in.clone(),
            },
            forget_after: config.agents.forget_after,
            task_timeout: config.agents.task_timeout,
            max_recoveries: config.recovery.max_concurrent,
            mass_failure: config.recovery.mass_failure,
            verify_interval: config.verify_interval,
            max_restarts: config.rollout.max_concurrent_restarts,
            agent_timeout: config.rollout.agent_timeout,
            stability: config.rollout.stability,
            rollout: rollout(config, &tasks),
            ..Settings::new(tasks.specs())
        };
        let framework = framework_info(config);
        Self { settings, tasks, framework, inventory_interval: config.mesos.inventory_interval }
    }

    /// What can be launched where earlier configurations `defined` these targets: they are on agents still. What cannot be
    /// read is left out there: what had it gets the operator's target when it breaks, unless that is refused.
    pub fn launchable(&self, defined: &mut Arc<BTreeMap<TargetHash, Definition>>) -> Arc<TaskTypes> {
        let (tasks, unreadable) = self.tasks.learn(defined);
        for target in unreadable {
            error!("{target}");
            Arc::make_mut(defined).remove(&target.target);
        }
        Arc::new(tasks)
    }

    /// Leads whenever `opener` lets us, until going on is not possible. `connect` subscribes as a framework, for as long
    /// as a tenure holds; `tell` is told what is done.
    pub async fn lead<K: Kv, L: Link, C: driver::Clock + Clone>(
        &self,
        opener: &mut Opener<K>,
        mut connect: impl FnMut(FrameworkInfo, &Tenure) -> (L, mpsc::Receiver<ClientEvent>),
        clock: C,
        tell: impl Fn(Stage<'_, L>) + Send + Sync,
    ) -> Ended {
        loop {
            let begin = opener.open(|why| tell(Stage::Standby(why))).await;
            let Opened { store, mut state, tenure, doubtful } = match begin {
                Ok(begin) => begin,
                Err(error) => return error.into(),
            };
            info!(agents = state.agents.len(), framework = ?state.framework_id, "state is loaded");
            let id = state.framework_id.as_ref().map(|id| id.0.as_str().into());
            let (link, events) = connect(FrameworkInfo { id, ..self.framework.clone() }, &tenure);
            let tasks = self.launchable(&mut state.cluster.definitions);
            let (driver, handle) = Driver::new(
                Core::new(Settings { doubtful, ..self.settings.clone() }, state),
                (store, tenure),
                tasks,
                self.framework.roles.clone(),
                self.inventory_interval,
                (link.clone(), events),
                clock.clone(),
            );
            tell(Stage::Leading(handle, &link));
            // The subscription lasts as long as anyone holds the link: from here on that is the loop alone.
            drop(link);
            match Box::pin(driver.run()).await {
                driver::Ended::Deposed => {
                    tell(Stage::Standby("leadership was lost"));
                    warn!("leadership was lost: nothing is done until this scheduler leads again");
                }
                ended => return ended.into(),
            }
        }
    }
}

/// How a changed target comes to the agents.
fn rollout(config: &Config, tasks: &TaskTypes) -> Rollout {
    Rollout {
        own_host: config.service.host.clone(),
        undo: tasks.undo(),
        unwanted: tasks.unwanted(),
        definitions: tasks.definitions(),
        guarded: config.target.guarded(),
        ..config.rollout.pace.clone()
    }
}

fn framework_info(config: &Config) -> FrameworkInfo {
    use capability::Type;
    let capabilities = [
        Type::MultiRole,
        Type::PartitionAware,
        Type::ReservationRefinement,
        Type::RegionAware,
        // DC/OS hides agents with GPUs from all others; we take none.
        Type::GpuResources,
    ];
    FrameworkInfo {
        user: config.service.user.clone(),
        name: config.service.name.clone(),
        failover_timeout: Some(config.service.failover_timeout.as_secs_f64()),
        // Otherwise a restart of an agent kills our tasks there.
        checkpoint: Some(true),
        roles: config.service.roles.clone(),
        webui_url: config.service.webui_url.clone(),
        principal: config.mesos.identity.principal().map(str::to_owned),
        capabilities: capabilities.into_iter().map(|t| Capability { r#type: Some(t.into()) }).collect(),
        ..FrameworkInfo::default()
    }
}
