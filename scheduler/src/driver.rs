//! The loop: input, core, store, effects, in this order and never another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::{debug, error, info, warn};

use crate::core::{AfterFailure, Core, Decision, Effect, Event, Frame, Input, Slot, Timestamp, View};
use crate::mesos::{self, Client, ClientEvent};
use crate::state::{Store, StoreError, Tenure};
use crate::tasks::TaskTypes;

const TICK: Duration = Duration::from_secs(1);
/// After a failed commit.
const COMMIT_AGAIN: Duration = Duration::from_secs(2);
/// Inputs that are decided together and stored with one commit.
const BATCH: usize = 256;

/// Asks the loop for a picture of everything.
#[derive(Debug)]
pub struct Query(oneshot::Sender<View>);

/// The API's end of the loop.
#[derive(Debug, Clone)]
pub struct Handle {
    queries: mpsc::Sender<Query>,
    alive: Arc<AtomicU64>,
}

impl Handle {
    /// A picture of everything; none when the loop has ended.
    pub async fn view(&self) -> Option<View> {
        let (sender, receiver) = oneshot::channel();
        self.queries.send(Query(sender)).await.ok()?;
        receiver.await.ok()
    }

    /// How long ago the loop last went round.
    pub fn idle(&self) -> Duration {
        now().since(Timestamp(self.alive.load(Ordering::Relaxed)))
    }
}

/// Why the loop ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The master refuses us for good.
    #[error(
        "the master ended our subscription: {0}. State is kept, tasks go on running. If the framework was removed \
         on purpose and is to be installed anew, give it a new service.state; otherwise correct the \
         configuration and start again"
    )]
    Refused(String),
    /// Another scheduler leads, or may lead: nothing is done any more.
    #[error("this scheduler no longer leads")]
    Deposed,
    /// Nothing brings events any more.
    #[error("the subscription's task has ended")]
    Stopped,
}

/// The loop and all that it works with.
pub struct Driver<S> {
    core: Core,
    store: S,
    tenure: Tenure,
    tasks: Arc<TaskTypes>,
    roles: Vec<String>,
    client: Client,
    events: mpsc::Receiver<ClientEvent>,
    queries: mpsc::Receiver<Query>,
    /// What effects bring back.
    inputs: mpsc::Receiver<Input>,
    input_sender: mpsc::Sender<Input>,
    inventory: Interval,
    alive: Arc<AtomicU64>,
}

impl<S: Store> Driver<S> {
    /// A loop over `core`, whose state is `store`'s, for as long as `tenure` holds.
    pub fn new(
        core: Core,
        (store, tenure): (S, Tenure),
        tasks: Arc<TaskTypes>,
        roles: Vec<String>,
        inventory_interval: Duration,
        (client, events): (Client, mpsc::Receiver<ClientEvent>),
    ) -> (Self, Handle) {
        let (query_sender, queries) = mpsc::channel(64);
        let (input_sender, inputs) = mpsc::channel(1024);
        let alive = Arc::new(AtomicU64::new(now().0));
        let handle = Handle { queries: query_sender, alive: Arc::clone(&alive) };
        let mut inventory = interval(inventory_interval);
        inventory.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let driver = Self {
            core,
            store,
            tenure,
            tasks,
            roles,
            client,
            events,
            queries,
            inputs,
            input_sender,
            inventory,
            alive,
        };
        (driver, handle)
    }

    /// Runs until going on is not possible.
    pub async fn run(mut self) -> Ended {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.alive.store(now().0, Ordering::Relaxed);
            let mut inputs = Vec::new();
            tokio::select! {
                () = self.tenure.ended() => return Ended::Deposed,
                event = self.events.recv() => match event {
                    Some(event) => inputs.push(input(event)),
                    None => return Ended::Stopped,
                },
                Some(answer) = self.inputs.recv() => inputs.push(answer),
                Some(Query(sender)) = self.queries.recv() => {
                    // A client that no longer waits is no fault.
                    let _ = sender.send(self.core.view());
                    continue;
                }
                _ = tick.tick() => inputs.push(Input::Tick),
                _ = self.inventory.tick() => {
                    self.read_inventory();
                    continue;
                }
            }
            while inputs.len() < BATCH
                && let Ok(event) = self.events.try_recv()
            {
                inputs.push(input(event));
            }
            let mut batch = Frame::default();
            for input in inputs {
                let frame = self.core.handle(now(), input);
                batch.changes.extend(frame.changes);
                batch.effects.extend(frame.effects);
                batch.decisions.extend(frame.decisions);
            }
            batch.decisions.iter().for_each(log);
            if let Err(ended) = self.commit(&batch).await {
                return ended;
            }
            for effect in batch.effects {
                if !self.tenure.holds() {
                    return Ended::Deposed;
                }
                if let Effect::Abort(message) = effect {
                    return Ended::Refused(message);
                }
                self.perform(effect).await;
            }
        }
    }

    /// Stores the changes: their effects wait for as long as that takes, while we lead.
    async fn commit(&mut self, batch: &Frame) -> Result<(), Ended> {
        loop {
            if !self.tenure.holds() {
                return Err(Ended::Deposed);
            }
            match self.store.commit(&batch.changes).await {
                Ok(()) => return Ok(()),
                Err(StoreError::Deposed) => return Err(Ended::Deposed),
                Err(error) => error!("cannot store state, nothing is done until that works: {error}"),
            }
            tokio::time::sleep(COMMIT_AGAIN).await;
            self.alive.store(now().0, Ordering::Relaxed);
        }
    }

    async fn perform(&mut self, effect: Effect) {
        match &effect {
            Effect::RefreshInventory => self.inventory.reset_immediately(),
            Effect::ReadOutput { slot, task, agent } => {
                let Some(framework) = self.core.state().framework_id.clone() else { return };
                let Some(address) = self.core.agent(agent).map(|record| record.key.0.clone()) else { return };
                let (slot, task, inputs) = (slot.clone(), task.clone(), self.input_sender.clone());
                tokio::spawn(async move {
                    if let Some(text) = mesos::last_words(&address, &framework, &task).await {
                        // The loop's end is the process's.
                        let _ = inputs.send(Input::Output { slot, text }).await;
                    }
                });
            }
            effect => {
                let core = &self.core;
                let address = |launch: &crate::core::Launch| Some(core.agent(&launch.agent)?.key.clone());
                if let Some(call) = mesos::call(effect, &self.tasks, &self.roles, address) {
                    self.client.send(call).await;
                }
            }
        }
    }

    /// Reads the list of agents beside the loop.
    fn read_inventory(&self) {
        let Some(leader) = self.client.leader() else { return };
        let inputs = self.input_sender.clone();
        tokio::spawn(async move {
            match mesos::agents(&leader.authority).await {
                Ok(agents) => {
                    // The loop's end is the process's.
                    let _ = inputs.send(Input::Agents(agents)).await;
                }
                Err(error) => warn!("cannot read the list of agents: {error}"),
            }
        });
    }
}

fn input(event: ClientEvent) -> Input {
    match event {
        ClientEvent::Event(event) => {
            if let Event::Update(update) = &event {
                debug!(task = %update.task, state = ?update.state, "update: {}", update.message);
            }
            Input::Event(event)
        }
        ClientEvent::Disconnected => Input::Disconnected,
    }
}

fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

fn log(decision: &Decision) {
    let place = |slot: &Slot| match slot {
        Slot::Cluster(_) => "the cluster".to_owned(),
        Slot::Agent(key, _) => key.to_string(),
    };
    match decision {
        Decision::Launched { slot, task, target } => {
            info!(agent = place(slot), %task, %target, "{} is launched", slot.task_type());
        }
        Decision::Reached { slot } => info!(agent = place(slot), "{} has reached its goal", slot.task_type()),
        Decision::Failed { slot, reason, then: AfterFailure::Retry(wait) } => {
            warn!(agent = place(slot), "{} failed, again in {wait:?}: {reason}", slot.task_type());
        }
        Decision::Failed { slot, reason, then: AfterFailure::Hold } => {
            error!(agent = place(slot), "{} failed, and waits for an operator: {reason}", slot.task_type());
        }
        Decision::Adopted { slot, task } => {
            info!(agent = place(slot), %task, "{} was found running", slot.task_type());
        }
        Decision::Killed { task, reason } => warn!(%task, "killed: {reason}"),
        Decision::AgentSeen { what } => info!("agent {what}"),
        Decision::AgentAbsent { what } => warn!("agent {what} is away"),
    }
}
