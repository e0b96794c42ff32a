//! A small world around one core: a master, hosts, tasks, a store, and a connection with faults. It is
//! deterministic, and it checks at every step what must always hold.

mod effects;
mod hosts;
mod invariants;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::*;

pub use hosts::Act;

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
    standing: Standing,
}

#[derive(Debug)]
struct WorldTask {
    task_type: TaskType,
    agent: AgentId,
    /// Whether it only looks.
    only_looks: bool,
    /// What the task is; `None` before it has started.
    now: Option<Update>,
    /// What its agent still wants to be acknowledged, oldest first.
    queue: VecDeque<Update>,
    alive: bool,
    /// Whether its agent was partitioned while it was alive: then another may do the cluster's work.
    was_unreachable: bool,
}

/// An agent on which something may have been restarted.
#[derive(Debug)]
struct Disrupted {
    since: Timestamp,
    /// The last launch that may have done that.
    task: TaskId,
    /// Since when the scheduler can know that all is well there.
    healthy_since: Option<Timestamp>,
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
    /// Installs of which everything is on its host.
    whole: BTreeSet<(AgentId, TaskType)>,
    /// On its way to the scheduler.
    inbox: Vec<Input>,
    crash: Option<Crash>,
    subscribed: bool,
    suppressed: bool,
    inventory_wanted: bool,
    /// The last list of agents that the scheduler got, since it was started.
    listed: BTreeMap<AgentId, Standing>,
    /// Since when a known registration was in none of the lists.
    unlisted: BTreeMap<AgentId, Timestamp>,
    /// Services that were ready, and the scheduler knows it.
    known_ready: BTreeSet<(AgentId, TaskType)>,
    /// Agents on which something may have been restarted, and are not known to be healthy since.
    disrupted: BTreeMap<AgentId, Disrupted>,
    /// What has said that it needs a restart.
    needs_restart: BTreeSet<(AgentId, TaskType)>,
    /// What has said that its host cannot have it.
    skipped: BTreeSet<(AgentId, TaskType)>,
    /// Services that the scheduler was told of last that they are ready.
    told_ready: BTreeSet<TaskId>,
    /// Launches of such services that have not come to anything, and when they were made.
    recovering: BTreeMap<TaskId, Timestamp>,
    filters: BTreeMap<AgentId, Timestamp>,
    offers: BTreeMap<OfferId, AgentId>,
    /// The hosts whose offers are wanted.
    constraints: Option<BTreeSet<String>>,
    last_revive: Option<Timestamp>,
    count: u32,
}

impl World {
    /// Hosts that get Calico, and one more that is excluded.
    pub fn new(hosts: u8) -> Self {
        let mut settings = docker_settings();
        settings.exclude = vec![Selector("calico:no".into())];
        settings.max_recoveries = Share::Number(1 + u32::from(hosts % 2));
        settings.mass_failure = Share::Percent(50);
        settings.forget_after = Duration::from_mins(10);
        settings.agent_timeout = Duration::from_mins(3);
        settings.verify_interval = Some(Duration::from_mins(5));
        settings.max_restarts = if hosts.is_multiple_of(2) { Share::Percent(40) } else { Share::Number(1) };
        let mut world = Self {
            now: Timestamp(1_000_000),
            core: Core::new(settings.clone(), State::default()),
            settings,
            stored: State::default(),
            hosts: Vec::new(),
            tasks: BTreeMap::new(),
            reached: BTreeSet::new(),
            whole: BTreeSet::new(),
            inbox: Vec::new(),
            crash: None,
            subscribed: false,
            suppressed: false,
            inventory_wanted: false,
            listed: BTreeMap::new(),
            unlisted: BTreeMap::new(),
            known_ready: BTreeSet::new(),
            disrupted: BTreeMap::new(),
            needs_restart: BTreeSet::new(),
            skipped: BTreeSet::new(),
            told_ready: BTreeSet::new(),
            recovering: BTreeMap::new(),
            filters: BTreeMap::new(),
            offers: BTreeMap::new(),
            constraints: None,
            last_revive: None,
            count: 0,
        };
        for n in 0..=hosts {
            let (key, id) = (world.fresh_key(), world.fresh_id());
            world.hosts.push(Host {
                key,
                id,
                excluded: n == hosts,
                partitioned: false,
                standing: Standing::Active,
            });
        }
        world
    }

    fn fresh(&mut self) -> u32 {
        self.count += 1;
        self.count
    }

    fn fresh_key(&mut self) -> AgentKey {
        AgentKey::from(format!("10.0.0.{}:5051", self.fresh()))
    }

    fn fresh_id(&mut self) -> AgentId {
        AgentId::from(format!("S{}", self.fresh()))
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
        let told = input.clone();
        let frame = self.core.handle(self.now, input);
        let outdated = |decision: &Decision| matches!(decision, Decision::Outdated { .. });
        assert!(!frame.decisions.iter().any(outdated), "nothing was restored: {:?}", frame.decisions);
        let crash = self.crash.take();
        let before: Vec<Arc<AgentRecord>> = self.stored.agents.values().cloned().collect();
        if let Some(Crash::Before) = crash {
            return self.restart();
        }
        for change in frame.changes {
            // What is stored is what was serialised.
            let text = serde_json::to_string(&change).unwrap();
            self.stored.apply(serde_json::from_str(&text).unwrap());
        }
        assert_eq!(self.stored, *self.core.state(), "replaying the changes gives another state");
        self.check_forgotten(&before);
        self.note_told(&told);
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
        self.listed.clear();
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
            self.suppressed = true;
            self.constraints = None;
            self.input(Input::Event(Event::TakesConstraints));
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
            standing: host.standing,
            attributes: if host.excluded { vec!["calico:no".into()] } else { vec![] },
            domain: None,
            registered_again: None,
        });
        let listed: Vec<Agent> = listed.collect();
        self.note_listed(&listed);
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
            let Host { id, key, partitioned, standing, .. } = &self.hosts[host];
            let left_out = self.constraints.as_ref().is_some_and(|hosts| !hosts.contains(key.host()));
            let active = *standing == Standing::Active && !partitioned;
            if left_out || !active || self.filters.contains_key(id) || held.contains(id) {
                continue;
            }
            let agent = id.clone();
            for _ in 0..2 {
                let id = OfferId::from(format!("O{}", self.fresh()));
                self.offers.insert(id.clone(), agent.clone());
                offers.push(Offer {
                    id,
                    agent: (&*agent.0).into(),
                    resources: plenty().into(),
                    unavailability: None,
                });
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
            self.stand(n, Standing::Active);
        }
        self.inventory_wanted = true;
    }

    /// What is still missing, if anything is.
    pub fn unfinished(&self) -> Option<String> {
        let held = |record: &TaskRecord| matches!(record.phase, Phase::Held { .. });
        let cluster_is = |task_type: TaskType, is: fn(&TaskRecord) -> bool| {
            self.stored.cluster.tasks.get(&task_type).is_some_and(is)
        };
        let cluster_held = cluster_is(TaskType::ClusterInit, held);
        let (mut network_wanted, mut restart_waits) = (false, false);
        let view = self.core.view();
        for host in self.hosts.iter().filter(|host| !host.excluded) {
            let Some(record) = self.stored.agents.get(&host.key) else {
                return Some(format!("{} is not known", host.key));
            };
            if record.tasks.values().any(held)
                || record.disruption.as_ref().is_some_and(|d| d.failure.is_some())
            {
                continue;
            }
            // When so many agents are held that it is a mass failure, nothing is restarted.
            let shown = view.agents.iter().find(|agent| agent.agent == host.key);
            if shown.and_then(|a| a.waits_for_slot.as_ref()).is_some_and(|why| why.contains("mass failure")) {
                restart_waits = true;
                continue;
            }
            let skipped = |t: TaskType| {
                record.tasks.get(&t).is_some_and(|record| matches!(record.phase, Phase::Skipped { .. }))
            };
            for task_type in agent_types() {
                let needs =
                    if task_type == TaskType::Libnetwork { TaskType::DockerClusterStore } else { task_type };
                if skipped(task_type) || skipped(needs) {
                    continue;
                }
                let there = match task_type {
                    TaskType::Cni | TaskType::DockerClusterStore => {
                        self.whole.contains(&(host.id.clone(), task_type))
                    }
                    _ => self.tasks.values().any(|task| {
                        let mine = task.agent == host.id && task.task_type == task_type;
                        mine && task.alive
                            && task.now.as_ref().is_some_and(|now| now.check == CheckResult::Exited(0))
                    }),
                };
                network_wanted |= task_type == TaskType::Libnetwork && there;
                // What the cluster waits for holds its agents up, and what has vanished there is found when they go on.
                let is_done = record.tasks.get(&task_type).is_some_and(|record| record.phase.at_goal());
                let waits = cluster_held && (task_type >= TaskType::CalicoNode || is_done);
                if !there && !waits {
                    return Some(format!("{} has no {task_type}: {shown:?}", host.key));
                }
            }
            if !cluster_held && shown.is_none_or(|view| view.status != Status::Complete) {
                return Some(format!("the core does not know that {} is finished: {shown:?}", host.key));
            }
        }
        if let Some(aside) = self.stored.agents.values().find(|agent| agent.aside) {
            return Some(format!("{} is still kept aside: {:?}", aside.key, aside.tasks));
        }
        let finished =
            |task_type| cluster_is(task_type, held) || cluster_is(task_type, |record| record.phase.at_goal());
        if network_wanted && !finished(TaskType::DockerNetwork) {
            return Some("there is no docker-network".to_owned());
        }
        // With every agent held, the cluster's tasks still wait for one.
        let wanted = restart_waits
            || !finished(TaskType::ClusterInit)
            || !finished(TaskType::DockerNetwork) && self.core.has_place();
        (!self.suppressed && !wanted).then(|| format!("offers are not suppressed: {:?}", self.core.demand))
    }
}
