//! The loop: input, core, store, effects, in this order and never another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{debug, error, info, warn};

use crate::config::Server;
use crate::core::{AfterFailure, Core, Decision, Effect, Event, Frame, Input, Slot, Timestamp, View};
use crate::mesos::{self, Client, ClientEvent};
use crate::state::{Store, StoreError, Tenure};
use crate::tasks::TaskTypes;

const TICK: Duration = Duration::from_secs(1);
/// After a failed commit.
const COMMIT_AGAIN: Duration = Duration::from_secs(2);
/// After a failed reading of the list of agents: nothing is launched before there is one.
const INVENTORY_AGAIN: Duration = Duration::from_secs(5);
/// Inputs that are decided together and stored with one commit.
const BATCH: usize = 256;
/// Sandboxes that are read at the same time: thousands of tasks may fail at once.
const READS: usize = 16;

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
    /// Asks for the list of agents before its time.
    inventory_wanted: Arc<Notify>,
    reads: Arc<Semaphore>,
    alive: Arc<AtomicU64>,
    _background: JoinSet<()>,
}

impl<S: Store> Driver<S> {
    /// A loop over `core`, whose state is `store`'s, for as long as `tenure` holds. The list of agents is read beside
    /// it, as often as `inventory_interval` says.
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
        let inventory_wanted = Arc::new(Notify::new());
        let inventory = read_inventory(
            inventory_interval,
            Arc::clone(&inventory_wanted),
            client.clone(),
            input_sender.clone(),
        );
        // It holds the client, and so the subscription: both end with the loop.
        let mut background = JoinSet::new();
        background.spawn(inventory);
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
            inventory_wanted,
            reads: Arc::new(Semaphore::new(READS)),
            alive,
            _background: background,
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
            Effect::RefreshInventory => self.inventory_wanted.notify_one(),
            Effect::ReadOutput { slot, task, agent } => {
                let Some(framework) = self.core.state().framework_id.clone() else { return };
                let Some(address) = self.core.agent(agent).map(|record| record.key.0.clone()) else { return };
                let (slot, task, inputs) = (slot.clone(), task.clone(), self.input_sender.clone());
                let reads = Arc::clone(&self.reads);
                // Agents of a cluster speak TLS where its masters do.
                let Some(leader) = self.client.leader() else { return };
                let (access, server) =
                    (self.client.access().clone(), Server { tls: leader.server.tls, authority: address });
                tokio::spawn(async move {
                    let Ok(_turn) = reads.acquire().await else { return };
                    if let Some(text) = mesos::last_words(&access, &server, &framework, &task).await {
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
}

/// Reads the list of agents, again and again: one reading at a time, so that none is overtaken by an older one.
async fn read_inventory(
    interval: Duration,
    wanted: Arc<Notify>,
    client: Client,
    inputs: mpsc::Sender<Input>,
) {
    let mut wait = interval;
    loop {
        // Wanted now or due: the same is done.
        let _ = timeout(wait, wanted.notified()).await;
        wait = interval;
        let Some(leader) = client.leader() else { continue };
        let agents = match mesos::agents(client.access(), &leader.server).await {
            Ok(agents) => agents,
            Err(error) => {
                warn!("cannot read the list of agents: {error}");
                wait = interval.min(INVENTORY_AGAIN);
                continue;
            }
        };
        // A master that no longer leads does not know which agents there are.
        if client.leader().is_some_and(|now| now.server == leader.server)
            && inputs.send(Input::Agents(agents)).await.is_err()
        {
            return;
        }
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
