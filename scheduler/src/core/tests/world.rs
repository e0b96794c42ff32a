//! A small world around one core: a master, hosts, tasks, a store, and a connection with faults. It is
//! deterministic, and it checks at every step what must always hold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::script::state as bare;
use super::*;

/// How a task goes on.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    /// It is up, not ready.
    Start,
    /// A service's check passes.
    Ready,
    /// A service's check no longer passes.
    NotReady,
    /// Its command ends.
    Exit(i32),
}

/// When the scheduler dies.
#[derive(Debug, Clone, Copy)]
pub enum Crash {
    /// Before the next frame is stored.
    Before,
    /// After it is stored, and after the first so many of its effects.
    After(usize),
}

#[derive(Debug)]
struct Host {
    key: AgentKey,
    id: AgentId,
    excluded: bool,
    partitioned: bool,
}

#[derive(Debug)]
struct WorldTask {
    task_type: TaskType,
    agent: AgentId,
    /// What the task is; `None` before it has started.
    now: Option<Update>,
    /// What its agent still wants to be acknowledged, oldest first.
    queue: VecDeque<Update>,
    alive: bool,
    /// Whether its agent was partitioned while it was alive: then another may do the cluster's work.
    was_unreachable: bool,
}

/// Everything there is.
pub struct World {
    pub now: Timestamp,
    core: Core,
    settings: Settings,
    stored: State,
    hosts: Vec<Host>,
    tasks: BTreeMap<TaskId, WorldTask>,
    /// What reached its goal in this world, whether or not the scheduler knows.
    reached: BTreeSet<(AgentId, TaskType)>,
    /// On its way to the scheduler.
    inbox: Vec<Input>,
    crash: Option<Crash>,
    subscribed: bool,
    suppressed: bool,
    inventory_wanted: bool,
    filters: BTreeMap<AgentId, Timestamp>,
    offers: BTreeMap<OfferId, AgentId>,
    last_revive: Option<Timestamp>,
    count: u32,
}

impl World {
    /// Hosts that get Calico, and one more that is excluded.
    pub fn new(hosts: u8) -> Self {
        let mut settings = settings();
        settings.exclude = vec![Selector("calico:no".into())];
        let mut world = Self {
            now: Timestamp(1_000_000),
            core: Core::new(settings.clone(), State::default()),
            settings,
            stored: State::default(),
            hosts: Vec::new(),
            tasks: BTreeMap::new(),
            reached: BTreeSet::new(),
            inbox: Vec::new(),
            crash: None,
            subscribed: false,
            suppressed: false,
            inventory_wanted: false,
            filters: BTreeMap::new(),
            offers: BTreeMap::new(),
            last_revive: None,
            count: 0,
        };
        for n in 0..=hosts {
            let (key, id) = (world.fresh_key(), world.fresh_id());
            world.hosts.push(Host { key, id, excluded: n == hosts, partitioned: false });
        }
        world
    }

    fn fresh(&mut self) -> u32 {
        self.count += 1;
        self.count
    }

    fn fresh_key(&mut self) -> AgentKey {
        AgentKey(format!("10.0.0.{}:5051", self.fresh()))
    }

    fn fresh_id(&mut self) -> AgentId {
        AgentId(format!("S{}", self.fresh()))
    }

    fn host(&self, id: &AgentId) -> Option<&Host> {
        self.hosts.iter().find(|host| host.id == *id)
    }

    /// Whether the master can reach that registration.
    fn reachable(&self, id: &AgentId) -> bool {
        self.host(id).is_some_and(|host| !host.partitioned)
    }

    // What the scheduler is told.

    /// The scheduler handles one input: stores, then does.
    fn input(&mut self, input: Input) {
        // No two inputs at the same millisecond: task IDs rely on it.
        self.now = self.now.after(Duration::from_millis(1));
        let frame = self.core.handle(self.now, input);
        let crash = self.crash.take();
        if let Some(Crash::Before) = crash {
            return self.restart();
        }
        for change in frame.changes {
            // What is stored is what was serialised.
            let text = serde_json::to_string(&change).unwrap();
            self.stored.apply(serde_json::from_str(&text).unwrap());
        }
        assert_eq!(self.stored, *self.core.state(), "replaying the changes gives another state");
        let survive = match crash {
            Some(Crash::After(effects)) => effects,
            _ => frame.effects.len(),
        };
        for effect in frame.effects.into_iter().take(survive) {
            self.effect(effect);
        }
        if crash.is_some() {
            self.restart();
        }
    }

    fn restart(&mut self) {
        self.lose_connection();
        self.core = Core::new(self.settings.clone(), through_json(&self.stored));
        self.last_revive = None;
    }

    fn lose_connection(&mut self) {
        self.subscribed = false;
        self.inbox.clear();
        self.offers.clear();
    }

    /// The next input is the scheduler's last.
    pub fn arm(&mut self, crash: Crash) {
        self.crash = Some(crash);
    }

    pub fn subscribe(&mut self) {
        if !self.subscribed {
            // Filters may outlive a subscription: the core must not count on their end.
            self.subscribed = true;
            self.suppressed = false;
            self.input(Input::Event(Event::Subscribed("F".into())));
        }
    }

    pub fn disconnect(&mut self) {
        if self.subscribed {
            self.lose_connection();
            self.input(Input::Disconnected);
        }
    }

    pub fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.input(Input::Tick);
    }

    pub fn inventory(&mut self) {
        self.inventory_wanted = false;
        let listed = self.hosts.iter().filter(|host| !host.partitioned).map(|host| Agent {
            key: host.key.clone(),
            id: host.id.clone(),
            version: "1.11.0".into(),
            active: true,
            attributes: if host.excluded { vec!["calico:no".into()] } else { vec![] },
        });
        let listed = listed.collect();
        self.input(Input::Agents(listed));
    }

    /// The master offers what it may: two offers an agent, of which either has room.
    pub fn make_offers(&mut self) {
        if !self.subscribed || self.suppressed {
            return;
        }
        let now = self.now;
        self.filters.retain(|_, until| *until > now);
        let held: BTreeSet<AgentId> = self.offers.values().cloned().collect();
        let mut offers = Vec::new();
        for host in 0..self.hosts.len() {
            let Host { id, partitioned, .. } = &self.hosts[host];
            if *partitioned || self.filters.contains_key(id) || held.contains(id) {
                continue;
            }
            let agent = id.clone();
            for _ in 0..2 {
                let id = OfferId(format!("O{}", self.fresh()));
                self.offers.insert(id.clone(), agent.clone());
                offers.push(Offer { id, agent: agent.clone(), resources: plenty(), unavailable: false });
            }
        }
        if !offers.is_empty() {
            self.input(Input::Event(Event::Offers(offers)));
        }
    }

    fn pick(&self, n: usize) -> Option<usize> {
        (!self.inbox.is_empty()).then(|| n % self.inbox.len())
    }

    /// Something on its way arrives: in any order, for the connection is the worst that can be.
    pub fn deliver(&mut self, n: usize) {
        if let Some(n) = self.pick(n) {
            let input = self.inbox.remove(n);
            self.input(input);
        }
    }

    pub fn duplicate(&mut self, n: usize) {
        if let Some(n) = self.pick(n) {
            self.inbox.push(self.inbox[n].clone());
        }
    }

    pub fn lose(&mut self, n: usize) {
        if let Some(n) = self.pick(n) {
            self.inbox.remove(n);
        }
    }

    fn send(&mut self, input: Input) {
        if self.subscribed {
            self.inbox.push(input);
        }
    }

    fn send_update(&mut self, update: Update) {
        self.send(Input::Event(Event::Update(update)));
    }

    /// Agents send again what is not acknowledged.
    pub fn redeliver(&mut self) {
        let fronts: Vec<Update> = self
            .tasks
            .values()
            .filter(|task| self.reachable(&task.agent))
            .filter_map(|task| task.queue.front().cloned())
            .collect();
        for update in fronts {
            let on_its_way = Input::Event(Event::Update(update.clone()));
            if !self.inbox.contains(&on_its_way) {
                self.send_update(update);
            }
        }
    }

    // What happens on the hosts.

    fn alive(&self) -> Vec<TaskId> {
        self.tasks.iter().filter(|(_, task)| task.alive).map(|(id, _)| id.clone()).collect()
    }

    pub fn act(&mut self, n: usize, act: Act) {
        let alive = self.alive();
        if !alive.is_empty() {
            let id = alive[n % alive.len()].clone();
            self.act_on(&id, act);
        }
    }

    fn act_on(&mut self, id: &TaskId, act: Act) {
        let task = self.tasks.get_mut(id).unwrap();
        let service = matches!(self.settings.specs[&task.task_type].goal, Goal::Running { .. });
        let check = if service { CheckResult::Pending } else { CheckResult::None };
        let healthy = service.then_some(true);
        let running = Update { healthy, check, ..bare(TaskState::Running) };
        let mut reached = false;
        let update = match act {
            Act::Start if task.now.is_none() => running,
            Act::Ready if service && task.now.is_some() => {
                reached = true;
                Update { check: CheckResult::Exited(0), ..running }
            }
            Act::NotReady if service && task.now.is_some() => {
                Update { check: CheckResult::Exited(1), ..running }
            }
            Act::Exit(0) if task.now.is_some() => {
                reached = !service;
                bare(TaskState::Finished)
            }
            Act::Exit(status) if status != 0 => {
                let message = format!("Command exited with status {status}");
                Update { message, ..bare(TaskState::Failed) }
            }
            _ => return,
        };
        if reached {
            self.reached.insert((task.agent.clone(), task.task_type));
        }
        self.report(id, update);
    }

    fn report(&mut self, id: &TaskId, update: Update) {
        let uuid = self.fresh().to_be_bytes().to_vec();
        let task = self.tasks.get_mut(id).unwrap();
        let agent = Some(task.agent.clone());
        let update = Update { task: id.clone(), agent, uuid: Some(uuid), ..update };
        if task.now.as_ref().is_some_and(|now| same(now, &update)) {
            return;
        }
        task.alive = !matches!(update.state, TaskState::Finished | TaskState::Failed);
        task.now = Some(update.clone());
        task.queue.push_back(update.clone());
        let first = task.queue.len() == 1;
        let agent = task.agent.clone();
        if first && self.reachable(&agent) {
            self.send_update(update);
        }
    }

    pub fn partition(&mut self, n: usize) {
        let n = n % self.hosts.len();
        if !self.hosts[n].partitioned {
            self.hosts[n].partitioned = true;
            let id = self.hosts[n].id.clone();
            self.offers.retain(|_, agent| *agent != id);
            self.tell_of(&id, TaskState::Unreachable);
        }
    }

    pub fn heal(&mut self, n: usize) {
        let n = n % self.hosts.len();
        self.hosts[n].partitioned = false;
        self.redeliver();
    }

    /// A new registration at the same address: nothing of the old is left.
    pub fn rebuild(&mut self, n: usize) {
        let n = n % self.hosts.len();
        let old = self.hosts[n].id.clone();
        self.tell_of(&old, TaskState::Gone);
        for task in self.tasks.values_mut().filter(|task| task.agent == old) {
            task.alive = false;
            task.queue.clear();
        }
        self.offers.retain(|_, agent| *agent != old);
        self.hosts[n].id = self.fresh_id();
        self.hosts[n].partitioned = false;
    }

    /// The same registration at another address, which may be another's.
    pub fn relocate(&mut self, n: usize, other: usize) {
        let (n, other) = (n % self.hosts.len(), other % self.hosts.len());
        if n == other {
            self.hosts[n].key = self.fresh_key();
        } else if !self.hosts[n].partitioned && !self.hosts[other].partitioned && self.crash.is_none() {
            let key = self.hosts[n].key.clone();
            self.hosts[n].key = std::mem::replace(&mut self.hosts[other].key, key);
            // Seen before one of them is away: records are kept by address, so an agent that comes back after
            // another took its address is a new one.
            self.inventory();
        }
    }

    /// The master tells what became of all tasks of a registration.
    fn tell_of(&mut self, id: &AgentId, state: TaskState) {
        let mut told = Vec::new();
        for (task_id, task) in self.tasks.iter_mut().filter(|(_, task)| task.agent == *id && task.alive) {
            task.was_unreachable = true;
            told.push(Update { task: task_id.clone(), agent: Some(id.clone()), ..bare(state) });
        }
        for update in told {
            self.send_update(update);
        }
        if self.subscribed {
            self.send(Input::Event(Event::Failure(Some(id.clone()))));
        }
    }

    // What the scheduler does.

    fn effect(&mut self, effect: Effect) {
        if let Effect::Revive = effect {
            let interval = self.settings.revive_interval;
            let last = self.last_revive.replace(self.now);
            assert!(last.is_none_or(|last| self.now.since(last) >= interval), "REVIVE again too soon");
        }
        match effect {
            // Not carried by the subscription.
            Effect::RefreshInventory => self.inventory_wanted = true,
            Effect::Abort(message) => panic!("nothing here is a reason to abort: {message}"),
            Effect::Acknowledge { task, uuid, .. } => self.acknowledge(&task, &uuid),
            Effect::Launch(launch) => self.launch(&launch),
            Effect::ReadOutput { slot, task, .. } => {
                let text = format!("the last words of {task}");
                self.send(Input::Output { slot, text });
            }
            _ if !self.subscribed => {}
            Effect::Decline { offers, refuse } => {
                for offer in offers {
                    if let Some(agent) = self.offers.remove(&offer) {
                        let until = self.now.after(refuse);
                        let filter = self.filters.entry(agent).or_insert(until);
                        *filter = until.max(*filter);
                    }
                }
            }
            Effect::Kill { task, .. } => self.kill(&task),
            Effect::Reconcile(tasks) if tasks.is_empty() => {
                for task in self.tasks.keys().cloned().collect::<Vec<_>>() {
                    if self.tasks[&task].alive {
                        self.answer(&task, None);
                    }
                }
            }
            Effect::Reconcile(tasks) => {
                for (task, agent) in tasks {
                    self.answer(&task, Some(agent));
                }
            }
            Effect::Revive => {
                self.suppressed = false;
                self.filters.clear();
            }
            Effect::Suppress => self.suppressed = true,
        }
    }

    fn live_record(&self, id: &TaskId) -> Option<&TaskRecord> {
        let mut slots = self.stored.slots().map(|(_, record)| record);
        slots.find(|record| record.phase.live().is_some_and(|(task, _)| task == id))
    }

    fn acknowledge(&mut self, id: &TaskId, uuid: &[u8]) {
        let record = self.live_record(id);
        let task = self.tasks.get(id).expect("an update of a task that was never launched");
        let Some(update) = task.queue.front().filter(|update| update.uuid.as_deref() == Some(uuid)) else {
            return;
        };
        match (update.state, record.map(|record| &record.phase)) {
            (TaskState::Finished | TaskState::Failed, Some(phase)) => {
                panic!("the end of {id} is acknowledged and not stored: {phase:?}")
            }
            (_, Some(Phase::Launched { .. })) => panic!("{id}: {update:?} is acknowledged and not stored"),
            _ => {}
        }
        let task = self.tasks.get_mut(id).unwrap();
        if self.subscribed {
            task.queue.pop_front();
            if let Some(next) = task.queue.front().cloned()
                && self.reachable(next.agent.as_ref().unwrap())
            {
                self.send_update(next);
            }
        }
    }

    fn launch(&mut self, launch: &Launch) {
        let Launch { offer, agent, task_type, task, .. } = launch;
        let record = self.live_record(task).unwrap_or_else(|| panic!("{task} is launched and not stored"));
        assert!(matches!(&record.phase, Phase::Launched { agent: stored, .. } if stored == agent));
        assert!(!self.tasks.contains_key(task), "{task} is launched twice");
        if !self.subscribed {
            return;
        }
        let valid = self.offers.remove(offer).is_some() && self.reachable(agent);
        if !valid {
            let dropped = Update { task: task.clone(), agent: Some(agent.clone()), ..bare(TaskState::Gone) };
            return self.send_update(dropped);
        }
        let host = self.host(agent).unwrap();
        assert!(!host.excluded, "{task} is launched on an excluded agent");
        self.check_order(agent, *task_type);
        let started = WorldTask {
            task_type: *task_type,
            agent: agent.clone(),
            now: None,
            queue: VecDeque::new(),
            alive: true,
            was_unreachable: false,
        };
        self.tasks.insert(task.clone(), started);
        self.check_alone(agent, *task_type);
    }

    /// What comes before has reached its goal on this agent.
    fn check_order(&self, agent: &AgentId, task_type: TaskType) {
        let before: &[TaskType] = match task_type {
            TaskType::ClusterInit | TaskType::EtcdProxy => &[],
            TaskType::Cni => &[TaskType::EtcdProxy],
            TaskType::CalicoNode => &[TaskType::EtcdProxy, TaskType::Cni],
        };
        for earlier in before {
            let reached = self.reached.contains(&(agent.clone(), *earlier));
            assert!(reached, "{task_type} is launched on {agent} before {earlier} is there");
        }
        let initialised = self.reached.iter().any(|(_, reached)| *reached == TaskType::ClusterInit);
        assert!(task_type != TaskType::CalicoNode || initialised, "calico-node before cluster-init");
    }

    fn check_alone(&self, agent: &AgentId, task_type: TaskType) {
        let alive = self.tasks.iter().filter(|(_, task)| {
            let same_slot = match task_type.scope() {
                Scope::Agent => task.agent == *agent,
                Scope::Cluster => !task.was_unreachable,
            };
            task.alive && task.task_type == task_type && same_slot
        });
        let alive: Vec<&TaskId> = alive.map(|(id, _)| id).collect();
        assert!(alive.len() <= 1, "side by side: {alive:?}");
    }

    fn kill(&mut self, id: &TaskId) {
        let task = &self.tasks[id];
        if !task.alive || !self.reachable(&task.agent) {
            return self.answer(id, None);
        }
        // Every task here was launched by us and stored; only a cluster's task that was given up may be in the way.
        let given_up = task.task_type.scope() == Scope::Cluster && task.was_unreachable;
        assert!(given_up, "{id} is alive, ours, and killed");
        self.report(id, Update { message: "Command terminated".into(), ..bare(TaskState::Failed) });
    }

    /// What the master knows of a task: what its agent said last.
    fn answer(&mut self, id: &TaskId, asked_for: Option<AgentId>) {
        let update = match self.tasks.get(id) {
            Some(task) if self.host(&task.agent).is_some() => {
                if !self.reachable(&task.agent) {
                    bare(TaskState::Unreachable)
                } else if let Some(front) = task.queue.front() {
                    front.clone()
                } else if task.alive {
                    task.now.clone().unwrap_or_else(|| bare(TaskState::Starting))
                } else {
                    bare(TaskState::Gone)
                }
            }
            _ => bare(TaskState::Gone),
        };
        let agent = self.tasks.get(id).map(|task| task.agent.clone()).or(asked_for);
        self.send_update(Update { task: id.clone(), agent, uuid: None, ..update });
    }

    // The end of all faults.

    /// Everything works for `time`: what is on its way arrives in order, tasks succeed.
    pub fn work(&mut self, time: Duration) {
        self.subscribe();
        if self.inventory_wanted {
            self.inventory();
        }
        self.make_offers();
        for id in self.alive() {
            self.act_on(&id, Act::Start);
            let service =
                matches!(self.settings.specs[&self.tasks[&id].task_type].goal, Goal::Running { .. });
            self.act_on(&id, if service { Act::Ready } else { Act::Exit(0) });
        }
        self.redeliver();
        for said in 0.. {
            assert!(said < 1000, "an endless conversation: {:?}", self.inbox);
            if self.inbox.is_empty() {
                break;
            }
            self.deliver(0);
            self.subscribe();
        }
        self.pass(time);
    }

    /// All hosts are there, nothing fails any more.
    pub fn mend(&mut self) {
        self.crash = None;
        for n in 0..self.hosts.len() {
            self.heal(n);
        }
        self.inventory_wanted = true;
    }

    /// What is still missing, if anything is.
    pub fn unfinished(&self) -> Option<String> {
        let held = |tasks: &Tasks| tasks.values().any(|record| matches!(record.phase, Phase::Held { .. }));
        let cluster_held = held(&self.stored.cluster.tasks);
        for host in self.hosts.iter().filter(|host| !host.excluded) {
            let Some(record) = self.stored.agents.get(&host.key) else {
                return Some(format!("{} is not known", host.key));
            };
            if held(&record.tasks) {
                continue;
            }
            for task_type in [TaskType::EtcdProxy, TaskType::Cni, TaskType::CalicoNode] {
                let there = match task_type {
                    TaskType::Cni => self.reached.contains(&(host.id.clone(), task_type)),
                    _ => self.tasks.values().any(|task| {
                        let mine = task.agent == host.id && task.task_type == task_type;
                        mine && task.alive
                            && task.now.as_ref().is_some_and(|now| now.check == CheckResult::Exited(0))
                    }),
                };
                let waits = task_type == TaskType::CalicoNode && cluster_held;
                if !there && !waits {
                    return Some(format!("{} has no {task_type}: {:?}", host.key, record.tasks));
                }
            }
            let view = self.core.view().agents.into_iter().find(|agent| agent.agent == host.key);
            if !cluster_held && view.as_ref().is_none_or(|view| view.status != Status::Complete) {
                return Some(format!("the core does not know that {} is finished: {view:?}", host.key));
            }
        }
        // With every agent held, the cluster's task still waits for one.
        let initialised = self.stored.cluster.tasks.values().any(|record| record.phase.at_goal());
        let wanted = !initialised && !cluster_held;
        (!self.suppressed && !wanted).then(|| format!("offers are not suppressed: {:?}", self.core.demand))
    }
}

/// Whether an update says what the one before said.
fn same(a: &Update, b: &Update) -> bool {
    (a.state, a.check, a.healthy) == (b.state, b.check, b.healthy)
}
