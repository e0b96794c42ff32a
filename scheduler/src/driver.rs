//! The loop: input, core, store, effects, in this order and never another.

mod inventory;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, error, info, warn};

use crate::core::{
    AfterFailure, Command, CommandError, Core, Decision, Effect, Event, Frame, Input, Slot, Timestamp, View,
};
use crate::mesos::{self, ClientEvent, Link, Refusal, StreamNumber};
use crate::pulse::Pulse;
use crate::state::{Store, StoreError, Tenure};
use crate::tasks::TaskTypes;

const TICK: Duration = Duration::from_secs(1);
/// When nothing was decided for so long, the core is told.
const UNATTENDED: Duration = Duration::from_secs(30);
/// After a failed commit.
const COMMIT_AGAIN: Duration = Duration::from_secs(2);
/// Inputs that are decided together and stored with one commit.
const BATCH: usize = 256;
/// Sandboxes that are read at the same time: thousands of tasks may fail at once.
const READS: usize = 16;

/// Tells the time of day. Waits are tokio's: a test that has a clock of its own moves both.
pub trait Clock: Send + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }
}

/// What the API asks of the loop.
#[derive(Debug)]
pub enum Query {
    /// A picture of everything.
    View(oneshot::Sender<View>),
    /// To carry out an operator's command.
    Command(Command, oneshot::Sender<Result<String, CommandError>>),
}

/// The API's end of the loop.
#[derive(Debug, Clone)]
pub struct Handle {
    queries: mpsc::Sender<Query>,
    pulse: Pulse,
    inventory: watch::Receiver<Inventory>,
}

/// How the reading of the master's list of agents goes.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// When it was last read.
    pub read: Option<Instant>,
    /// Why it could not be read since.
    pub error: Option<String>,
}

impl Handle {
    /// A picture of everything; none when the loop has ended.
    pub async fn view(&self) -> Option<View> {
        let (sender, receiver) = oneshot::channel();
        self.queries.send(Query::View(sender)).await.ok()?;
        receiver.await.ok()
    }

    /// Carries out a command: what was done, or why it cannot be. It is stored when this returns; none when the loop has
    /// ended, and then it may or may not be.
    pub async fn command(&self, command: Command) -> Option<Result<String, CommandError>> {
        let (sender, receiver) = oneshot::channel();
        self.queries.send(Query::Command(command, sender)).await.ok()?;
        receiver.await.ok()
    }

    /// How the reading of the master's list of agents goes.
    pub fn inventory(&self) -> Inventory {
        self.inventory.borrow().clone()
    }

    /// How long ago anything went on in the loop.
    pub fn idle(&self) -> Duration {
        self.pulse.idle()
    }
}

/// Why the loop ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The master refuses us for good.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Another scheduler leads, or may lead: nothing is done any more.
    #[error("this scheduler no longer leads")]
    Deposed,
    /// Nothing brings events any more.
    #[error("the subscription's task has ended")]
    Stopped,
}

/// The loop and all that it works with.
pub struct Driver<S, L, C> {
    core: Core,
    store: S,
    tenure: Tenure,
    tasks: Arc<TaskTypes>,
    roles: Vec<String>,
    link: L,
    clock: C,
    events: mpsc::Receiver<ClientEvent>,
    /// The subscription that the last event was of; none while there is none.
    stream: Option<StreamNumber>,
    queries: mpsc::Receiver<Query>,
    /// What effects bring back.
    inputs: mpsc::Receiver<Input>,
    input_sender: mpsc::Sender<Input>,
    /// Asks for the list of agents before its time.
    inventory_wanted: Arc<Notify>,
    reads: Arc<Semaphore>,
    pulse: Pulse,
    /// When anything was decided last, by the machine's clock.
    attended: Timestamp,
    _background: JoinSet<()>,
}

impl<S: Store, L: Link, C: Clock> Driver<S, L, C> {
    /// A loop over `core`, whose state is `store`'s, for as long as `tenure` holds. The list of agents is read beside
    /// it, as often as `inventory_interval` says.
    pub fn new(
        core: Core,
        (mut store, tenure): (S, Tenure),
        tasks: Arc<TaskTypes>,
        roles: Vec<String>,
        inventory_interval: Duration,
        (link, events): (L, mpsc::Receiver<ClientEvent>),
        clock: C,
    ) -> (Self, Handle) {
        let (query_sender, queries) = mpsc::channel(64);
        let (input_sender, inputs) = mpsc::channel(1024);
        let pulse = Pulse::default();
        store.beat(pulse.clone());
        let (read, inventory) = watch::channel(Inventory::default());
        let handle = Handle { queries: query_sender, pulse: pulse.clone(), inventory };
        let inventory_wanted = Arc::new(Notify::new());
        let inventory = inventory::read_inventory(
            inventory_interval,
            Arc::clone(&inventory_wanted),
            link.clone(),
            input_sender.clone(),
            read,
        );
        // It holds the link, and so the subscription: both end with the loop.
        let mut background = JoinSet::new();
        background.spawn(inventory);
        let attended = clock.now();
        let driver = Self {
            core,
            store,
            tenure,
            tasks,
            roles,
            link,
            clock,
            events,
            stream: None,
            queries,
            inputs,
            input_sender,
            inventory_wanted,
            reads: Arc::new(Semaphore::new(READS)),
            pulse,
            attended,
            _background: background,
        };
        (driver, handle)
    }

    /// Runs until going on is not possible.
    pub async fn run(mut self) -> Ended {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.pulse.beat();
            let mut inputs = Vec::new();
            let mut query = None;
            // In this order, and not in one that chance gives: what happened is enough to tell what was done. Nobody
            // starves, for all that waits is taken below.
            tokio::select! {
                biased;
                () = self.tenure.ended() => return Ended::Deposed,
                _ = tick.tick() => inputs.push((self.stream, Input::Tick)),
                Some(answer) = self.inputs.recv() => inputs.push((self.stream, answer)),
                event = self.events.recv() => match event {
                    Some(event) => inputs.push(self.heard(event)),
                    None => return Ended::Stopped,
                },
                Some(asked) = self.queries.recv() => query = Some(asked),
            }
            let mut asker = None;
            match query.or_else(|| self.queries.try_recv().ok()) {
                // A client that no longer waits is no fault.
                Some(Query::View(sender)) => drop(sender.send(self.core.view())),
                Some(Query::Command(command, sender)) => {
                    inputs.push((self.stream, Input::Command(command)));
                    asker = Some(sender);
                }
                None => {}
            }
            while inputs.len() < BATCH
                && let Ok(event) = self.events.try_recv()
            {
                inputs.push(self.heard(event));
            }
            let mut batch = Frame::default();
            let mut effects = Vec::new();
            let mut answer = None;
            let before = std::mem::replace(&mut self.attended, self.clock.now());
            if self.attended.since(before) > UNATTENDED {
                warn!("nothing was decided since {before}");
                inputs.insert(0, (self.stream, Input::Unattended));
            }
            for (stream, input) in inputs {
                let frame = self.core.handle(self.clock.now(), input);
                batch.changes.extend(frame.changes);
                // What is decided for one subscription is wrong in the next.
                effects.extend(frame.effects.into_iter().map(|effect| (stream, effect)));
                batch.decisions.extend(frame.decisions);
                answer = answer.or(frame.answer);
            }
            self.store.note(self.clock.now(), &batch.decisions);
            if let Err(ended) = self.commit(&batch).await {
                return ended;
            }
            // Not before: what could not be stored is decided anew by whoever leads next, and told then.
            batch.decisions.iter().for_each(log);
            if let Some((asker, answer)) = asker.zip(answer) {
                let _ = asker.send(answer);
            }
            for (stream, effect) in effects {
                if !self.tenure.holds() {
                    return Ended::Deposed;
                }
                if let Effect::Abort(message) = effect {
                    return Ended::Refused(Refusal::of(&message));
                }
                self.perform(stream, effect).await;
                self.pulse.beat();
            }
        }
    }

    /// An event as the core's input, with the subscription that it is of.
    fn heard(&mut self, event: ClientEvent) -> (Option<StreamNumber>, Input) {
        match event {
            ClientEvent::Event(stream, event) => {
                if let Event::Update(update) = &event {
                    debug!(task = %update.task, state = ?update.state, "update: {}", update.message);
                }
                self.stream = Some(stream);
                (self.stream, Input::Event(event))
            }
            ClientEvent::Disconnected => {
                self.stream = None;
                (None, Input::Disconnected)
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
            self.pulse.beat();
        }
    }

    async fn perform(&mut self, stream: Option<StreamNumber>, effect: Effect) {
        match &effect {
            Effect::RefreshInventory => self.inventory_wanted.notify_one(),
            Effect::ReadOutput { slot, task, agent } => {
                let Some(framework) = self.core.state().framework_id.clone() else { return };
                let Some(key) = self.core.agent(agent).map(|record| record.key.clone()) else { return };
                let (slot, task, inputs) = (slot.clone(), task.clone(), self.input_sender.clone());
                let (link, reads) = (self.link.clone(), Arc::clone(&self.reads));
                tokio::spawn(async move {
                    let Ok(_turn) = reads.acquire().await else { return };
                    if let Some(text) = link.last_words(&key, &framework, &task).await {
                        // The loop's end is the process's.
                        let _ = inputs.send(Input::Output { slot, task, text }).await;
                    }
                });
            }
            effect => {
                let core = &self.core;
                let site = |launch: &crate::core::Launch| core.agent(&launch.agent).map(mesos::Site::from);
                let call = mesos::call(effect, &self.tasks, &self.roles, site);
                if let Some((stream, call)) = stream.zip(call) {
                    // It waits for those before it, each of which has its limit.
                    self.pulse.during(self.link.send(stream, call)).await;
                }
            }
        }
    }
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
        Decision::NeedsRestart { slot, reason } => {
            warn!(agent = place(slot), "{} changed nothing, a restart is needed: {reason}", slot.task_type());
        }
        Decision::Skipped { slot, reason } => {
            info!(agent = place(slot), "{} is skipped: {reason}", slot.task_type());
        }
        Decision::Disrupts { slot } => {
            info!(agent = place(slot), "{} may restart what it must: a slot is taken", slot.task_type());
        }
        Decision::DisruptionEnded { slot } => {
            info!(agent = place(slot), "healthy after {}: its slot is free", slot.task_type());
        }
        Decision::DisruptionFailed { slot, reason } => {
            error!(agent = place(slot), "given up, its slot is free, it waits for an operator: {reason}");
        }
        Decision::Looks { slot, task } => {
            debug!(agent = place(slot), %task, "{} is looked at", slot.task_type());
        }
        Decision::Vanished { slot, reason } => {
            warn!(agent = place(slot), "{} is to be put back: {reason}", slot.task_type());
        }
        Decision::PutBack { slot, what } => {
            info!(agent = place(slot), "{} was put back: {what}", slot.task_type());
        }
        Decision::Unchecked { slot, reason } => {
            warn!(agent = place(slot), "{}: {reason}", slot.task_type());
        }
        Decision::Rollout(news) => {
            let agent = news.agent().map(ToString::to_string);
            if news.is_trouble() { error!(agent, "{news}") } else { info!(agent, "{news}") }
        }
        Decision::Adopted { slot, task } => {
            info!(agent = place(slot), %task, "{} was found running", slot.task_type());
        }
        Decision::Killed { task, reason } => warn!(%task, "killed: {reason}"),
        Decision::Dropped { slot, reason } => {
            info!(
                agent = place(slot),
                "the launch of {} was dropped, again at once: {reason}",
                slot.task_type()
            );
        }
        Decision::Drained { slot } => {
            info!(agent = place(slot), "{} was ended: its agent drains", slot.task_type());
        }
        Decision::MassFailure { what } => error!("mass failure, recoveries are held: {what}"),
        Decision::MassFailureEnded { what } => info!("recoveries are no longer held: {what}"),
        Decision::Duplicate { what } => warn!("agent {what}"),
        Decision::AgentForgotten { what } => warn!("agent {what}, is forgotten"),
        Decision::NotReserved { reason } => warn!("{reason}"),
        Decision::Outdated { what } => error!(
            "the state that was loaded is older than what was done by it: it was restored from an older snapshot. Tasks \
             that it does not know are taken over where their place is empty ({what})"
        ),
        Decision::AgentSeen { what } => info!("agent {what}"),
        Decision::AgentAbsent { what } => warn!("agent {what} is away"),
    }
}
