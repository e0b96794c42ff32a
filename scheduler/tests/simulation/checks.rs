//! What must hold, as the hosts, the master and the store see it: the core is not asked.

mod failures;
mod recoveries;
mod rollouts;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use calico_scheduler::core::{AgentId, Phase, Scope, Settings, TargetHash, TaskId, TaskType, Timestamp};
use fake_master::{AgentRef, World};
use mesos_v1::master::response::GetAgents;
use mesos_v1::scheduler::{Call, Event, call, event};
use mesos_v1::{TaskInfo, TaskState, TaskStatus};

use crate::stored::{Pair, Stored};
use failures::{Circumstances, Failures, Place};
use recoveries::Recoveries;
pub use rollouts::{Configuration, Hours, Rollouts};

/// An offer of before is answered, at most, so long after it was rescinded.
const OFFERED: Duration = Duration::from_mins(2);

#[derive(Debug)]
struct Launched {
    task_type: TaskType,
    agent: AgentId,
    /// The master has said of it that it is unreachable or gone: another agent may do the cluster's work.
    given_up: bool,
    /// It is a service of which the scheduler knows that it runs.
    runs: bool,
    /// A word that it lives came after the one that it has ended: it has its place again, until that is found out.
    revived: bool,
}

/// What happened, as far as what may happen depends on it.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is something that may have happened, apart from the others"
)]
pub struct Checks {
    launched: BTreeMap<TaskId, Launched>,
    /// What has reached its goal, as the master's updates say.
    reached: BTreeSet<(AgentId, TaskType)>,
    /// Updates that want an acknowledgement.
    updates: BTreeMap<(TaskId, Vec<u8>), TaskStatus>,
    /// Launches that only look whether what is done is still there.
    looks: BTreeSet<TaskId>,
    failures: Failures,
    recoveries: Recoveries,
    /// Whether the last word on offers was that none are wanted.
    pub suppressed: bool,
    /// The store was restored from a backup: it may hold less than we knew.
    pub restored: bool,
    /// Calls are late at times: the subscription of one that is dead may come after the next one's.
    pub calls_late: bool,
    /// A scheduler's clock has jumped: what depends on how much time has passed is not judged.
    pub clocks_jumped: bool,
    /// Agents that must get nothing.
    pub excluded: BTreeSet<String>,
    /// Hosts that were drained or have moved: services that ended there may be launched as if for the first time.
    pub excused: BTreeSet<AgentRef>,
    /// Hosts that go down for maintenance soon, and since when their offers say so.
    pub maintained: BTreeMap<AgentRef, Duration>,
    /// Where operators want something else in the course of a life.
    pub rollouts: Option<Rollouts>,
}

/// Who sends a call, and when.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    pub name: &'a str,
    pub at: Duration,
}

impl Checks {
    pub fn new(settings: &Settings) -> Self {
        Self {
            launched: BTreeMap::new(),
            reached: BTreeSet::new(),
            updates: BTreeMap::new(),
            looks: BTreeSet::new(),
            failures: Failures::new(settings),
            recoveries: Recoveries::new(settings),
            suppressed: false,
            restored: false,
            calls_late: false,
            clocks_jumped: false,
            excluded: BTreeSet::new(),
            excused: BTreeSet::new(),
            maintained: BTreeMap::new(),
            rollouts: None,
        }
    }

    /// What is done next is done by a scheduler with this configuration.
    pub fn acts(&mut self, configured: usize, process: (usize, u32)) {
        if let Some(rollouts) = &mut self.rollouts {
            rollouts.acts(configured, process);
        }
    }

    /// Something was stored.
    pub fn stored<'a>(&mut self, now: Duration, stored: impl Iterator<Item = Pair<'a>>, world: &World) {
        if let Some(rollouts) = &mut self.rollouts {
            let spec = |host| world.spec(host);
            let rack = |host| Some(spec(host).attributes.first()?.text.as_ref()?.value.clone());
            let racks = || {
                let racks =
                    hosts_of(world).filter_map(|host| Some((spec(host).hostname.to_string(), rack(host)?)));
                racks.collect()
            };
            let gone = rollouts.stored(now, stored, racks);
            for (agent, task_type) in gone.slots {
                self.recoveries.forget(&agent, task_type);
            }
            // Where it comes back, it is a new one.
            for agent in gone.agents {
                self.failures.forgotten(&agent);
            }
        }
    }

    /// A scheduler sends a call.
    pub fn call(&mut self, by: Sender<'_>, call: &Call, stored: Stored<'_>, world: &World) {
        match call.r#type() {
            call::Type::Accept => {
                let operations = call.accept.iter().flat_map(|accept| &accept.operations);
                for task in operations.filter_map(|o| o.launch.as_ref()).flat_map(|launch| &launch.task_infos)
                {
                    self.launch(by, task, stored, world);
                }
            }
            call::Type::Acknowledge => {
                let acknowledge = call.acknowledge.as_ref().unwrap();
                self.acknowledged(&acknowledge.task_id.value, &acknowledge.uuid, stored);
            }
            call::Type::Kill => {
                let id = TaskId::from(call.kill.as_ref().unwrap().task_id.value.clone());
                self.kill(by, &id, world);
                if let Some(rollouts) = &mut self.rollouts {
                    rollouts.killed(&id, by.at);
                }
            }
            // A subscription suppresses all roles.
            call::Type::Suppress | call::Type::Subscribe => self.suppressed = true,
            call::Type::Revive => self.suppressed = false,
            _ => {}
        }
    }

    fn acknowledged(&mut self, task: &str, uuid: &[u8], stored: Stored<'_>) {
        let task = TaskId::from(task.to_owned());
        let status = self.updates.get(&(task.clone(), uuid.to_vec()));
        let status = status.unwrap_or_else(|| panic!("{task}: what was never said is acknowledged"));
        let state = status.state();
        let revived = self.launched.get(&task).is_some_and(|launched| launched.revived);
        if !self.restored && !revived {
            match stored.task(&task).map(|record| record.phase) {
                Some(phase) if is_terminal(state) => {
                    panic!("the end of {task} ({state:?}) is acknowledged and not stored: {phase:?}")
                }
                Some(Phase::Launched { .. }) => panic!("{state:?} of {task} is acknowledged and not stored"),
                _ => {}
            }
        }
        let Some(launched) = self.launched.get_mut(&task) else { return };
        launched.runs |= state == TaskState::TaskRunning && is_service(launched.task_type);
        let place = launched.place();
        if self.failures.is_latest(&place, &task) {
            self.recoveries.acknowledged(&task, &launched.agent, status);
        }
        self.failures.acknowledged(&place, &task, status);
    }

    fn launch(&mut self, by: Sender<'_>, task: &TaskInfo, stored: Stored<'_>, world: &World) {
        let (id, agent) =
            (TaskId::from(task.task_id.value.clone()), AgentId::from(task.agent_id.value.clone()));
        let task_type = id.task_type().unwrap();
        if !self.restored {
            let leads = stored.leader();
            assert_eq!(leads.as_deref(), Some(by.name), "{id} is launched by one that does not lead");
            let phase = stored.task(&id).map(|record| record.phase);
            assert!(
                matches!(&phase, Some(Phase::Launched { agent: stored, .. } | Phase::Checking { agent: stored, .. })
                    if *stored == agent),
                "{id} is launched and not stored: {phase:?}"
            );
        }
        let host = hosts_of(world).find(|host| world.agent_id(*host) == Some(&agent.0));
        if let Some(host) = host {
            let name = &world.spec(host).hostname;
            assert!(!self.excluded.contains(&**name), "{id} is launched on {name}, which is excluded");
        }
        let is_first = self.rollouts.as_ref().is_none_or(|rollouts| rollouts.is_first(&agent, task_type));
        if is_first {
            self.order(&agent, task_type);
        }
        if only_looks(task) {
            let place = (agent.clone(), task_type);
            let done = task_type.scope() == Scope::Cluster || self.reached.contains(&place);
            assert!(done, "{id} only looks, and what it looks at was never there");
            if let Some(rollouts) = &self.rollouts {
                rollouts.looks(&id, &agent, &target(task));
            }
            let looks = Launched { task_type, agent, given_up: false, runs: false, revived: false };
            assert!(self.launched.insert(id.clone(), looks).is_none(), "{id} is launched twice");
            self.looks.insert(id);
            return;
        }
        let (mut changes, mut freed) = (false, None);
        if let Some(rollouts) = &mut self.rollouts {
            changes =
                task_type.scope() == Scope::Cluster || rollouts.changes(&agent, task_type, &target(task));
            freed = rollouts.freed(&agent, task_type);
            rollouts.launch(&id, &agent, &target(task), by.at);
        }
        if let Some(host) = host {
            self.maintained(by, &id, host);
        }
        let mut slots = if self.restored { BTreeSet::new() } else { stored.slots() };
        let restarts = may_restart(task);
        if restarts && !self.restored {
            self.slot(&id, &agent, &slots);
        }
        let launched =
            Launched { task_type, agent: agent.clone(), given_up: false, runs: false, revived: false };
        let place = launched.place();
        assert!(self.launched.insert(id.clone(), launched).is_none(), "{id} is launched twice");
        // What an agent that drains does for the cluster is done by another at once.
        let moves_on = place.0.is_none() && !self.excused.is_empty();
        let is_free =
            changes || self.restored || moves_on || host.is_none_or(|host| self.excused.contains(&host));
        self.failures.launch(
            &place,
            &id,
            by.at,
            Circumstances { is_free, freed, restarts, clocks_jumped: self.clocks_jumped },
        );
        if !self.restored && !self.clocks_jumped {
            // What is down in its agent's place is no failure, and to launch it again no recovery.
            slots.extend(self.rollouts.iter().flat_map(|rollouts| rollouts.placed(by.at)).cloned());
            let unwanted = |(agent, task_type): &(AgentId, TaskType)| {
                self.rollouts
                    .as_ref()
                    .is_some_and(|it| !it.gets(agent, *task_type) || it.is_left_out(agent, *task_type))
            };
            self.recoveries.retain(|service| !unwanted(service));
            let there = hosts_of(world).filter(|host| !self.excused.contains(host));
            let counted = there.filter_map(|host| world.agent_id(host)).map(AgentId::from).collect();
            let now = Timestamp(by.at.as_millis().try_into().unwrap());
            let gave_up = self.rollouts.iter().flat_map(Rollouts::gave_up).cloned().collect();
            self.recoveries.launch(&id, &agent, now, (&counted, &slots, &gave_up), world.agents());
        }
    }

    /// Nothing is launched on a host that goes down for maintenance, as its offers say.
    fn maintained(&self, by: Sender<'_>, id: &TaskId, host: AgentRef) {
        let since = self.maintained.get(&host);
        let sure = since.filter(|since| !self.calls_late && !self.clocks_jumped && **since + OFFERED < by.at);
        assert_eq!(sure, None, "{id} is launched where maintenance is near");
    }

    /// What may restart something has a slot, and there is no other.
    fn slot(&self, id: &TaskId, agent: &AgentId, slots: &BTreeSet<AgentId>) {
        // By a clock that has jumped, its time may be over by now.
        let is_held = slots.contains(agent) || self.clocks_jumped;
        let alone = slots.iter().all(|other| other == agent);
        assert!(is_held && alone, "{id} may restart something, and slots are held by {slots:?}");
    }

    /// What comes before has reached its goal.
    fn order(&self, agent: &AgentId, task_type: TaskType) {
        let before = TaskType::ALL.into_iter().filter(|earlier| match task_type.scope() {
            Scope::Agent => is_step(*earlier) && *earlier < task_type,
            Scope::Cluster => task_type == TaskType::DockerNetwork && *earlier == TaskType::Libnetwork,
        });
        let before = before.filter(|earlier| {
            self.rollouts.as_ref().is_none_or(|it| it.is_wanted(*earlier) && !it.is_left_out(agent, *earlier))
        });
        for earlier in before {
            let there = self.reached.contains(&(agent.clone(), earlier));
            assert!(there, "{task_type} is launched on {agent} before {earlier} was there");
        }
        let initialised = self.reached.iter().any(|(_, reached)| *reached == TaskType::ClusterInit);
        assert!(task_type != TaskType::CalicoNode || initialised, "calico-node before cluster-init");
    }

    fn kill(&self, by: Sender<'_>, id: &TaskId, world: &World) {
        let alive = hosts(world).any(|(_, task, _)| task == &*id.0);
        let Some(ours) = self.launched.get(id) else { panic!("{id} is killed, and none of ours") };
        let given_up = ours.task_type.scope() == Scope::Cluster && ours.given_up;
        // By a clock that has jumped, it was at its beginning for too long.
        let hangs = self.clocks_jumped && !ours.runs;
        let replaced = self.rollouts.as_ref().is_some_and(|rollouts| rollouts.may_kill(id, by.at));
        assert!(!alive || given_up || hangs || replaced || self.restored, "{id} is alive, ours, and killed");
    }

    /// A scheduler is told which agents there are: others are away.
    pub fn listed(&mut self, process: (usize, u32), now: Duration, agents: &GetAgents) {
        if let Some(rollouts) = &mut self.rollouts {
            rollouts.informed(process, Some(now));
        }
        let there = agents.agents.iter().filter(|agent| agent.active);
        let there = there.filter_map(|agent| agent.agent_info.id.as_ref());
        self.failures.there(&there.map(|id| AgentId::from(id.value.as_str())).collect());
    }

    /// The master says something.
    pub fn event(&mut self, event: &Event, at: Duration) {
        let update = event.update.as_ref().filter(|_| event.r#type() == event::Type::Update);
        if let Some(update) = update {
            self.status(&update.status, at);
        }
    }

    fn status(&mut self, status: &TaskStatus, at: Duration) {
        let (task, state) = (TaskId::from(status.task_id.value.clone()), status.state());
        if let Some(uuid) = &status.uuid {
            self.updates.insert((task.clone(), uuid.to_vec()), status.clone());
        }
        if let Some(rollouts) = &mut self.rollouts {
            rollouts.status(&task, status);
        }
        let Some(launched) = self.launched.get_mut(&task) else { return };
        launched.revived |= launched.given_up && is_alive(state);
        if is_terminal(state) || matches!(state, TaskState::TaskUnreachable | TaskState::TaskLost) {
            launched.given_up = true;
        }
        if self.looks.contains(&task) {
            // It is launched again whatever it has ended with before.
            if exit_status(status) == Some(1) {
                self.failures.vanished(&launched.place());
            }
            return;
        }
        let done = state == TaskState::TaskFinished && !is_service(launched.task_type);
        // What the host cannot have is passed over.
        let passed_over = exit_status(status) == Some(80);
        if done || passed_over || is_ready(launched.task_type, status) {
            self.reached.insert((launched.agent.clone(), launched.task_type));
            if let Some(rollouts) = &mut self.rollouts {
                rollouts.reached(&task, at);
            }
        }
        self.failures.status(&launched.place(), &task, status, at);
        self.recoveries.status(&task, &launched.agent, status);
    }

    /// No two tasks of a type live in one place.
    pub fn alone(&self, world: &World) {
        let mut seen = BTreeSet::new();
        for (host, task, _) in hosts(world) {
            let id = TaskId::from(task.to_owned());
            let Some(task_type) = id.task_type() else { continue };
            let place = match task_type.scope() {
                Scope::Agent => Some(host),
                Scope::Cluster => None,
            };
            let excused = place.is_none() && self.launched.get(&id).is_none_or(|launched| launched.given_up);
            assert!(
                excused || seen.insert((place, task_type)) || self.restored,
                "{id} runs beside another {task_type}"
            );
        }
    }

    /// Whether this has reached its goal on that agent at some time.
    pub fn has_reached(&self, agent: &str, task_type: TaskType) -> bool {
        self.reached.contains(&(AgentId::from(agent.to_owned()), task_type))
    }

    /// With what exit status a task type may wait for an operator on an agent, and whether it must.
    pub fn held(&self, agent: &str, task_type: TaskType) -> Option<(i32, bool)> {
        self.failures.held(&place(&AgentId::from(agent.to_owned()), task_type))
    }
}

impl Launched {
    fn place(&self) -> Place {
        place(&self.agent, self.task_type)
    }
}

fn place(agent: &AgentId, task_type: TaskType) -> Place {
    ((task_type.scope() == Scope::Agent).then(|| agent.clone()), task_type)
}

/// Whether each agent gets it, with its first install.
pub fn is_step(task_type: TaskType) -> bool {
    task_type.scope() == Scope::Agent && task_type != TaskType::Prefetch
}

fn is_service(task_type: TaskType) -> bool {
    matches!(task_type, TaskType::EtcdProxy | TaskType::CalicoNode | TaskType::Libnetwork)
}

/// What a task was launched with.
fn target(task: &TaskInfo) -> TargetHash {
    let mut labels = task.labels.iter().flat_map(|labels| &labels.labels);
    let target =
        labels.find(|label| label.key == "calico-dcos.target").and_then(|label| label.value.as_deref());
    TargetHash::from(target.unwrap())
}

/// Whether a task may restart Docker or the Mesos agent.
pub fn may_restart(task: &TaskInfo) -> bool {
    task.command.as_ref().is_some_and(|command| command.arguments.iter().any(|a| a == "--allow-restart"))
}

/// Whether a task changes nothing.
pub fn only_looks(task: &TaskInfo) -> bool {
    task.name.ends_with("-check")
}

/// The exit status with which a task has failed, if the master's message names it.
fn exit_status(status: &TaskStatus) -> Option<i32> {
    status.message().strip_prefix("Command exited with status ")?.parse().ok()
}

/// Whether a service is what it is there for.
fn is_ready(task_type: TaskType, status: &TaskStatus) -> bool {
    let check = status.check_status.as_ref().and_then(|check| check.command.as_ref()?.exit_code);
    // The proxy has no health check.
    let healthy = task_type == TaskType::EtcdProxy || status.healthy == Some(true);
    let running = status.state() == TaskState::TaskRunning;
    is_service(task_type) && running && healthy && check == Some(0)
}

fn is_alive(state: TaskState) -> bool {
    !is_terminal(state) && !matches!(state, TaskState::TaskUnreachable | TaskState::TaskLost)
}

/// Whether a task that ended so has to be launched again.
fn is_failure(task_type: TaskType, state: TaskState) -> bool {
    is_terminal(state) && (state != TaskState::TaskFinished || is_service(task_type))
}

fn is_terminal(state: TaskState) -> bool {
    use TaskState::{
        TaskDropped, TaskError, TaskFailed, TaskFinished, TaskGone, TaskGoneByOperator, TaskKilled,
        TaskUnknown,
    };
    matches!(
        state,
        TaskFinished
            | TaskFailed
            | TaskKilled
            | TaskError
            | TaskDropped
            | TaskGone
            | TaskGoneByOperator
            | TaskUnknown
    )
}

fn hosts_of(world: &World) -> impl Iterator<Item = AgentRef> {
    (0..world.agents()).map(AgentRef::nth)
}

/// Everything that runs: where, what, and its state.
pub fn hosts(world: &World) -> impl Iterator<Item = (AgentRef, &str, TaskState)> {
    hosts_of(world).flat_map(|host| world.tasks_on(host).map(move |(task, state)| (host, task, state)))
}
