//! Asking the master about tasks: all live ones after each subscription until each has answered, those whose
//! launch stays without an answer, and all there are every now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Core;
use super::frame::{Effect, Frame};
use super::ids::{AgentId, TaskId, Timestamp};
use super::state::{Phase, Slot};

const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// For how long the master is asked for all tasks when more may have been done than is stored.
const DOUBT: Duration = Duration::from_secs(20);
const KILL_AGAIN: Duration = Duration::from_secs(30);

/// What was asked, and what is still to be done.
#[derive(Debug, Default)]
pub(super) struct Reconciliation {
    /// Asked about, not answered.
    pending: BTreeMap<TaskId, AgentId>,
    next: Option<Timestamp>,
    wait: Duration,
    next_implicit: Option<Timestamp>,
    /// When tasks that no record tells of will all have been heard of; none before the master was asked for them.
    doubt_ends: Option<Timestamp>,
    /// When launches run out of time.
    timeouts: BTreeSet<(Timestamp, TaskId)>,
    /// Tasks that must end, and when they are told again.
    kills: BTreeMap<TaskId, (AgentId, Timestamp)>,
}

impl Reconciliation {
    /// A launch that should be heard of before `deadline`.
    pub fn launched(&mut self, deadline: Timestamp, task: TaskId) {
        self.timeouts.insert((deadline, task));
    }

    /// An update of this task came.
    pub fn answered(&mut self, task: &TaskId) {
        self.pending.remove(task);
    }

    /// To be asked about by name.
    pub fn ask_about(&mut self, task: TaskId, agent: AgentId) {
        if self.pending.is_empty() {
            self.next = None;
            self.wait = FIRST_WAIT;
        }
        self.pending.insert(task, agent);
    }

    /// This task must end. True when it was not known so far.
    pub fn kill(&mut self, now: Timestamp, task: TaskId, agent: AgentId) -> bool {
        self.kills.insert(task, (agent, now.after(KILL_AGAIN))).is_none()
    }

    /// This task has ended.
    pub fn ended(&mut self, task: &TaskId) {
        self.kills.remove(task);
    }
}

impl Core {
    /// After a subscription: whatever happened meanwhile, the master says it.
    pub(super) fn reconcile_all(&mut self, now: Timestamp, frame: &mut Frame) {
        self.reconciliation.pending = self.live();
        self.reconciliation.wait = FIRST_WAIT;
        let wait = if self.settings.doubtful { Duration::ZERO } else { self.settings.reconcile_interval };
        self.reconciliation.next_implicit = Some(now.after(wait));
        self.reconciliation.doubt_ends = None;
        self.ask(now, frame);
    }

    pub(super) fn reconciliation_tick(&mut self, now: Timestamp, frame: &mut Frame) {
        self.collect_timeouts(now);
        let doubts = self.doubts(now);
        // What is not known is judged after the first inventory only: before it, asking would be for nothing.
        let asks = !doubts || self.inventory.is_some();
        if asks && self.reconciliation.next_implicit.is_some_and(|at| at <= now) {
            // Tasks that the master does not know are not in its answer: what stays open is asked by name.
            self.reconciliation.pending = self.live();
            self.reconciliation.next = Some(now.after(FIRST_WAIT));
            self.reconciliation.wait = FIRST_WAIT;
            let wait = if doubts { FIRST_WAIT } else { self.settings.reconcile_interval };
            self.reconciliation.next_implicit = Some(now.after(wait));
            if doubts {
                self.reconciliation.doubt_ends.get_or_insert(now.after(DOUBT));
            }
            frame.effects.push(Effect::Reconcile(Vec::new()));
        }
        let reconciliation = &mut self.reconciliation;
        if !reconciliation.pending.is_empty() && reconciliation.next.is_none_or(|at| at <= now) {
            self.ask(now, frame);
        }
    }

    /// Whether tasks may be running that no record tells of, so that nothing may be launched.
    pub(super) fn doubts(&self, now: Timestamp) -> bool {
        self.settings.doubtful && self.reconciliation.doubt_ends.is_none_or(|end| now < end)
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
        let reconciliation = &mut self.reconciliation;
        if reconciliation.pending.is_empty() {
            return;
        }
        let tasks =
            reconciliation.pending.iter().map(|(task, agent)| (task.clone(), agent.clone())).collect();
        frame.effects.push(Effect::Reconcile(tasks));
        reconciliation.next = Some(now.after(reconciliation.wait));
        reconciliation.wait = (reconciliation.wait * 2).min(LONGEST_WAIT);
    }

    fn collect_timeouts(&mut self, now: Timestamp) {
        while let Some((deadline, task)) = self.reconciliation.timeouts.pop_first() {
            if deadline > now {
                self.reconciliation.timeouts.insert((deadline, task));
                return;
            }
            let Some(slot) = self.index.tasks.get(&task) else { continue };
            if let Some(Phase::Launched { agent, .. }) = self.phase(slot) {
                let agent = agent.clone();
                self.reconciliation.ask_about(task, agent);
            }
        }
    }

    fn live(&self) -> BTreeMap<TaskId, AgentId> {
        let live = self.state.slots().filter_map(|(_, record)| record.phase.live());
        live.map(|(task, agent)| (task.clone(), agent.clone())).collect()
    }

    fn phase(&self, slot: &Slot) -> Option<&Phase> {
        self.state.task(slot).map(|record| &record.phase)
    }
}
