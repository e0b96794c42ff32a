//! Asking the master about tasks: all live ones after each subscription until each has answered, those whose
//! launch stays without an answer, and all there are every now and then.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use rustc_hash::FxHashSet;

use super::Core;
use super::frame::{Decision, Effect, Frame};
use super::ids::{AgentId, TaskId, Timestamp};
use super::input::TaskState;
use super::questions::{FIRST_WAIT, Questions};
use super::spec::Settings;
use super::state::{Phase, Slot, State};

/// For so long nothing is launched when the master does not say that it has told of all tasks; and when more was done
/// than is stored, for it may not know all agents yet.
const DOUBT: Duration = Duration::from_secs(20);
/// An agent that there never was: of a task there the master says that it does not know it, whatever else it knows.
const NOWHERE: &str = "nowhere";
const KILL_AGAIN: Duration = Duration::from_secs(30);

/// What was asked, and what is still to be done.
#[derive(Debug, Default)]
pub(super) struct Reconciliation {
    questions: Questions,
    next_implicit: Option<Timestamp>,
    /// Whether tasks may be running that no record tells of.
    doubt: Doubt,
    /// Until when the master has its time to learn of agents, where more was done than is stored; none before it was asked.
    patient_until: Option<Timestamp>,
    /// The last moment that is stored when we begin, and when we begin: in between we were not there. None of who begins
    /// with nothing.
    newest: Option<Timestamp>,
    began: Option<Timestamp>,
    /// Since when the master tells us what happens.
    attended: Option<Timestamp>,
    /// When launches that nothing was heard of, and tasks that are not at their goal, may run out of time.
    timeouts: BTreeMap<Timestamp, FxHashSet<TaskId>>,
    /// Tasks that must end, and when they are told again.
    kills: BTreeMap<TaskId, (AgentId, Timestamp)>,
}

/// Whether tasks may be running that no record tells of.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum Doubt {
    /// None are, or all have been heard of.
    #[default]
    None,
    /// The master is to be asked for all.
    Open,
    /// It was, and then about `last`, which there never was. It answers in that order: when it has answered that, all
    /// have been heard of.
    Asked { last: TaskId, ends: Timestamp },
}

impl Reconciliation {
    /// Of a core that begins with `state`.
    pub fn new(settings: &Settings, state: &State) -> Self {
        // Who has no ID yet has no tasks.
        let registered = state.framework_id.is_some();
        let doubt = if settings.doubtful || registered { Doubt::Open } else { Doubt::None };
        Self { doubt, newest: registered.then(|| state.newest()), ..Self::default() }
    }

    /// Whether we began with what others have done.
    pub fn goes_on(&self) -> bool {
        self.newest.is_some()
    }

    /// Agents came, maybe with tasks of ours.
    pub fn doubt_again(&mut self, settings: &Settings) {
        if settings.doubtful {
            self.doubt = Doubt::Open;
        }
    }

    /// Takes an answer. Whether it was the one that comes after those about all tasks.
    pub fn told_all(&mut self, task: &TaskId) -> bool {
        let told = matches!(&self.doubt, Doubt::Asked { last, .. } if last == task);
        if told {
            self.doubt = Doubt::None;
        }
        told
    }

    /// A task that should be heard of, or be at its goal, before `deadline`.
    pub fn expected(&mut self, deadline: Timestamp, task: TaskId) {
        self.timeouts.entry(deadline).or_default().insert(task);
    }

    /// Not before that deadline.
    fn not_expected(&mut self, deadline: Timestamp, task: &TaskId) {
        if let Entry::Occupied(mut tasks) = self.timeouts.entry(deadline)
            && tasks.get_mut().remove(task)
            && tasks.get().is_empty()
        {
            tasks.remove();
        }
    }

    /// An update of this task came.
    pub fn answered(&mut self, task: &TaskId) {
        self.questions.answered(task);
    }

    /// To be asked about by name: with the next tick, whatever was asked about it before.
    pub fn ask_about(&mut self, task: TaskId, agent: AgentId) {
        self.questions.put(task, agent, Timestamp::default());
    }

    /// This task must end. True when it was not known so far.
    pub fn kill(&mut self, now: Timestamp, task: TaskId, agent: AgentId) -> bool {
        self.kills.insert(task, (agent, now.after(KILL_AGAIN))).is_none()
    }

    /// The same, where the master has not been told by this scheduler: the next tick does.
    pub fn kill_at_next_tick(&mut self, task: TaskId, agent: AgentId) {
        self.kills.insert(task, (agent, Timestamp::default()));
    }

    /// Whether this task is to end, and the master is told so until it has.
    pub fn kills(&self, task: &TaskId) -> bool {
        self.kills.contains_key(task)
    }

    /// What the master says is heard without a gap from now on.
    pub fn attend(&mut self, now: Timestamp) {
        self.attended = Some(now);
    }

    /// This task has ended, or may live on. Whether it was to be killed.
    pub fn spare(&mut self, task: &TaskId) -> bool {
        self.kills.remove(task).is_some()
    }
}

impl Core {
    /// After a subscription: whatever happened meanwhile, the master says it.
    pub(super) fn reconcile_all(&mut self, now: Timestamp, frame: &mut Frame) {
        if self.settings.doubtful || self.reconciliation.doubt != Doubt::None {
            self.reconciliation.doubt = Doubt::Open;
        }
        // Where the master is to be asked for all anyway, that goes first: what it leaves out is asked by name, and all are
        // when the list of agents, which that waits for, does not come.
        let due = if self.reconciliation.doubt == Doubt::Open { now.after(FIRST_WAIT) } else { now };
        // Another master may know what this one did not.
        self.reconciliation.questions.clear();
        for (task, agent) in self.state.live() {
            self.reconciliation.questions.put(task.clone(), agent.clone(), due);
        }
        self.reconciliation.next_implicit = Some(now.after(self.settings.reconcile_interval));
        self.reconciliation.began.get_or_insert(now);
        self.reconciliation.patient_until = None;
        self.reconciliation.attend(now);
        self.ask(now, frame);
    }

    /// Since when what the master says is heard without a gap, if it is.
    pub(super) fn attended_since(&self) -> Option<Timestamp> {
        self.reconciliation.attended.filter(|_| self.demand.is_subscribed())
    }

    pub(super) fn reconciliation_tick(&mut self, now: Timestamp, frame: &mut Frame) {
        self.collect_timeouts(now);
        self.ask_for_all(now, frame);
        self.ask(now, frame);
    }

    /// Asks for all tasks, when it is time or there are doubts.
    pub(super) fn ask_for_all(&mut self, now: Timestamp, frame: &mut Frame) {
        let reconciliation = &self.reconciliation;
        // What is not known is judged after the first inventory only: before it, asking would be for nothing.
        let asks = self.inventory.is_some() && self.demand.is_subscribed();
        let begins = reconciliation.doubt == Doubt::Open;
        // One round at a time.
        let due = reconciliation.next_implicit.is_some_and(|at| at <= now)
            && !reconciliation.questions.is_under_way(now);
        if !asks || !begins && !due {
            return;
        }
        // Tasks that the master does not know are not in its answer: what stays open is asked by name.
        frame.effects.push(Effect::Reconcile(Vec::new()));
        let reconciliation = &mut self.reconciliation;
        reconciliation.questions.pause(now);
        for (task, agent) in self.state.live() {
            reconciliation.questions.put_new(task, agent, now.after(FIRST_WAIT));
        }
        let ends = now.after(DOUBT);
        if begins {
            let last = TaskId::from(format!("all.{:x}", now.0));
            frame.effects.push(Effect::Reconcile(vec![(last.clone(), NOWHERE.into())]));
            reconciliation.doubt = Doubt::Asked { last, ends };
            if self.settings.doubtful {
                reconciliation.patient_until.get_or_insert(ends);
            }
        }
        let patient = reconciliation.patient_until.is_some_and(|until| now < until);
        let wait = if patient { FIRST_WAIT } else { self.settings.reconcile_interval };
        reconciliation.next_implicit = Some(now.after(wait));
    }

    /// Whether tasks may be running that no record tells of, so that nothing may be launched.
    pub(super) fn doubts(&self, now: Timestamp) -> bool {
        let open = match &self.reconciliation.doubt {
            Doubt::None => false,
            Doubt::Open => true,
            Doubt::Asked { ends, .. } => now < *ends,
        };
        open || self.reconciliation.patient_until.is_some_and(|until| now < until)
    }

    /// What a live task that no record tells of says about the records: whoever launched it stored that before.
    pub(super) fn judge_records(&mut self, task: &TaskId, frame: &mut Frame) {
        let Reconciliation { newest: Some(newest), began: Some(began), .. } = self.reconciliation else {
            return;
        };
        let Some(at) = task.made_at().filter(|at| (newest..began).contains(at) && *at != newest) else {
            return;
        };
        if !self.settings.doubtful {
            self.settings.doubtful = true;
            self.reconciliation.doubt = Doubt::Open;
            let what = format!("{task} was launched at {at}, and the last that is stored is of {newest}");
            frame.decisions.push(Decision::Outdated { what });
        }
    }

    pub(super) fn retry_kills(&mut self, now: Timestamp, frame: &mut Frame) {
        for (task, (agent, again)) in &mut self.reconciliation.kills {
            if *again <= now {
                *again = now.after(KILL_AGAIN);
                frame.effects.push(Effect::Kill { task: task.clone(), agent: agent.clone() });
            }
        }
    }

    fn ask(&mut self, now: Timestamp, frame: &mut Frame) {
        let tasks = self.reconciliation.questions.ask(now);
        if !tasks.is_empty() {
            frame.effects.push(Effect::Reconcile(tasks));
        }
    }

    fn collect_timeouts(&mut self, now: Timestamp) {
        let later = self.reconciliation.timeouts.split_off(&Timestamp(now.0.saturating_add(1)));
        let due = std::mem::replace(&mut self.reconciliation.timeouts, later);
        for task in due.into_values().flatten() {
            let Some(slot) = self.index.tasks.get(&task) else { continue };
            let Some(record) = self.state.task(slot) else { continue };
            let agent = match (&record.phase, record.phase.beginning()) {
                (Phase::Launched { agent, .. }, _) => agent.clone(),
                // Of a look nothing is stored but its launch and its end.
                (Phase::Checking { agent, since, .. }, _) => {
                    let (agent, deadline) = (agent.clone(), self.goal_deadline(*since));
                    if deadline > now {
                        self.reconciliation.expected(deadline, task.clone());
                    }
                    agent
                }
                // The master's word decides: the end may be on its way.
                (_, Some((_, agent, since))) => {
                    let deadline = self.goal_deadline(since);
                    if deadline > now {
                        self.reconciliation.expected(deadline, task);
                        continue;
                    }
                    agent.clone()
                }
                _ => continue,
            };
            self.reconciliation.questions.put_new(&task, &agent, now);
        }
    }

    /// When a task that is at its beginning since then is given up. What happens while nobody listens is heard of later, one
    /// update after the other: so nobody's time begins before that.
    fn goal_deadline(&self, since: Timestamp) -> Timestamp {
        since.max(self.reconciliation.attended.unwrap_or_default()).after(self.settings.task_timeout)
    }

    /// Sees to it that a task that is at its beginning comes to its goal in time, or is ended: a fetch or an installer
    /// that hangs would hold its agent up for ever. Called with each word of it, so that it is alive when it is judged.
    pub(super) fn expect_goal(
        &mut self,
        now: Timestamp,
        slot: &Slot,
        said: TaskState,
        (before, phase): (&Phase, &Phase),
        frame: &mut Frame,
    ) {
        if before != phase
            && let Some((task, _, since)) = before.beginning()
        {
            self.reconciliation.not_expected(self.goal_deadline(since), task);
        }
        let Some((task, agent, since)) = phase.beginning() else {
            if let (TaskState::Running, Some((task, _))) = (said, phase.live())
                && !self.is_ending(slot)
            {
                // Just in time.
                self.reconciliation.spare(task);
            }
            return;
        };
        let deadline = self.goal_deadline(since);
        if now < deadline {
            self.reconciliation.expected(deadline, task.clone());
        } else if self.reconciliation.kill(now, task.clone(), agent.clone()) {
            let reason = format!("it is still at its beginning, since {since}");
            frame.decisions.push(Decision::Killed { task: task.clone(), reason });
            frame.effects.push(Effect::Kill { task: task.clone(), agent: agent.clone() });
        }
    }
}
