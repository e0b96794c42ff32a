//! Whole rollouts in virtual time: how long they take, against the shortest time that their limits allow, and what they
//! cost the scheduler. The core is the real one; around it are agents whose steps take given times, and offers as a
//! master makes them: once a second, to who wants them, of agents that are not filtered or left out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use calico_scheduler::core::{
    AgentId, CheckResult, Core, Effect, Event, Frame, Input, OfferId, Rollout, Settings, TaskId, TaskState,
    TaskType, Timestamp, Update,
};
use calico_scheduler::mesos::{Record, read};

use crate::cluster::{NOW, Progress, hostname, inventory, offers_of, state, tasks_with};
use crate::cpu;
use crate::process::memory_of;
use crate::table::{Goal, Row};

const SECOND: Duration = Duration::from_secs(1);
/// What the new image takes to be pulled.
const FETCH: Duration = Duration::from_mins(2);
/// From SIGTERM to the end of the old node.
const END: Duration = Duration::from_secs(2);
/// From the launch of the new node until it is ready.
const START: Duration = Duration::from_secs(20);
/// No rollout takes longer.
const LONGEST: Duration = Duration::from_hours(24);

/// The figures of rollouts over a thousand agents and ten thousand.
pub fn rows() -> Vec<Row> {
    [1000, 10_000].into_iter().flat_map(of).collect()
}

fn of(agents: usize) -> Vec<Row> {
    let tasks = tasks_with(&[("CALICO_NODE_IMAGE", "calico/node:v3.20.0")]);
    let rollout = Rollout { definitions: tasks.definitions(), ..Rollout::default() };
    let settings = Settings { rollout, ..Settings::new(tasks.specs()) };
    let ideal = ideal(agents, &settings);
    let spent = cpu::now();
    let mut cluster = Cluster::new(settings, agents);
    let took = cluster.runs();
    let spent = cpu::since(spent);
    assert!(cluster.most_at_once <= agents / 10, "{} agents were under way at once", cluster.most_at_once);
    let row = |what: &str, value, unit, goal| Row {
        what: format!("rollout over {agents} agents, {what}"),
        value,
        unit,
        goal,
    };
    vec![
        row("its length", took.as_secs_f64(), "s", Goal::None),
        row(
            "against the shortest that its limits allow",
            took.as_secs_f64() / ideal.as_secs_f64(),
            "times",
            Goal::AtMost(1.02),
        ),
        row("the core's processor time", spent.as_secs_f64(), "s", Goal::None),
        row("memory of core and simulated agents", memory_of("self").1, "MB", Goal::None),
        row(
            "the core's processor time, a step",
            spent.as_secs_f64() * 1e6 / f64::from(u32::try_from(agents).unwrap()) / 2.0,
            "µs",
            Goal::None,
        ),
    ]
}

/// The canary, the pause after it, and the others, so many at a time as there may be.
fn ideal(agents: usize, settings: &Settings) -> Duration {
    let each = FETCH + END + START + settings.stability;
    let rounds = (agents - settings.rollout.canary_count).div_ceil(settings.rollout.max_agents.of(agents));
    each + settings.rollout.canary_soak + each * u32::try_from(rounds).unwrap()
}

/// A cluster in which nothing fails.
struct Cluster {
    core: Core,
    now: Timestamp,
    agents: BTreeMap<AgentId, usize>,
    names: Vec<AgentId>,
    wants_offers: bool,
    /// Until when nothing is offered of an agent.
    filtered: BTreeMap<usize, Timestamp>,
    constrained: Option<BTreeSet<String>>,
    offered: BTreeMap<OfferId, usize>,
    offers: usize,
    /// What agents will say, and when.
    coming: BTreeMap<(Timestamp, usize), Update>,
    said: usize,
    /// The largest number of agents that had something launched and were not done.
    most_at_once: usize,
}

impl Cluster {
    fn new(settings: Settings, agents: usize) -> Self {
        let state = state(agents, Progress::Complete);
        let framework = state.framework_id.clone().unwrap();
        let listed = inventory(agents);
        let names: Vec<AgentId> = listed.iter().map(|agent| agent.id.clone()).collect();
        let mut cluster = Self {
            core: Core::new(settings, state),
            now: NOW,
            agents: names.iter().enumerate().map(|(n, id)| (id.clone(), n)).collect(),
            names,
            wants_offers: true,
            filtered: BTreeMap::new(),
            constrained: None,
            offered: BTreeMap::new(),
            offers: 0,
            coming: BTreeMap::new(),
            said: 0,
            most_at_once: 0,
        };
        cluster.tell(Input::Event(Event::TakesConstraints));
        cluster.tell(Input::Event(Event::Subscribed(framework)));
        cluster.tell(Input::Agents(listed));
        cluster
    }

    /// How long the rollout takes.
    fn runs(&mut self) -> Duration {
        let last = NOW.after(LONGEST);
        while self.core.view_of_rollout().stage != "complete" {
            assert!(self.now < last, "the rollout does not end: {:?}", self.core.view_of_rollout());
            self.now = self.now.after(SECOND);
            while let Some(((at, _), _)) = self.coming.first_key_value()
                && *at <= self.now
                && let Some((_, update)) = self.coming.pop_first()
            {
                self.tell(Input::Event(Event::Update(update)));
            }
            self.tell(Input::Tick);
            if self.now.since(NOW).as_secs().is_multiple_of(60) {
                self.tell(Input::Agents(inventory(self.names.len())));
            }
            self.make_offers();
            self.most_at_once = self.most_at_once.max(self.core.view_of_rollout().under_way);
        }
        self.now.since(NOW)
    }

    fn make_offers(&mut self) {
        if !self.wants_offers {
            return;
        }
        let (now, hosts) = (self.now, self.constrained.as_ref());
        self.filtered.retain(|_, until| *until > now);
        let wanted = |n: &usize| {
            !self.filtered.contains_key(n) && hosts.is_none_or(|hosts| hosts.contains(&hostname(*n)))
        };
        let agents: Vec<usize> = (0..self.names.len()).filter(wanted).collect();
        for chunk in agents.chunks(1000) {
            let (record, ids) = offers_of(chunk, self.offers);
            self.offers += chunk.len();
            self.offered.extend(ids.into_iter().zip(chunk.iter().copied()));
            let Record::Offers(event) = read(record).unwrap() else { panic!("a record without offers") };
            self.tell(Input::Event(event));
        }
    }

    fn tell(&mut self, input: Input) {
        let Frame { effects, .. } = self.core.handle(self.now, input);
        for effect in effects {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Launch(launch) => {
                self.offered.remove(&launch.offer);
                let (task, agent) = (&launch.task, &launch.agent);
                let running = |check| (TaskState::Running, Some(true), check);
                if launch.task_type == TaskType::CalicoNode {
                    self.says(SECOND, task, agent, running(CheckResult::Pending));
                    self.says(START, task, agent, running(CheckResult::Exited(0)));
                } else {
                    self.says(FETCH, task, agent, (TaskState::Finished, None, CheckResult::None));
                }
            }
            Effect::Kill { task, agent } => {
                self.says(END, &task, &agent, (TaskState::Failed, None, CheckResult::None));
            }
            Effect::Decline { offers, refuse } => {
                let until = self.now.after(refuse);
                let declined: Vec<usize> =
                    offers.iter().filter_map(|offer| self.offered.remove(offer)).collect();
                self.filtered.extend(declined.into_iter().map(|n| (n, until)));
            }
            Effect::Revive => {
                self.wants_offers = true;
                self.filtered.clear();
            }
            Effect::Suppress => self.wants_offers = false,
            Effect::Constrain(hosts) => self.constrained = hosts,
            Effect::Reconcile(asked) => {
                // The master has told of all that there is.
                if let Some((task, _)) = asked.last().filter(|(task, _)| task.0.starts_with("all.")) {
                    let answer = Update::bare(task.clone(), TaskState::Gone);
                    self.tell(Input::Event(Event::Update(answer)));
                }
            }
            Effect::Abort(why) => panic!("{why}"),
            _ => {}
        }
    }

    fn says(
        &mut self,
        after: Duration,
        task: &TaskId,
        agent: &AgentId,
        (state, healthy, check): (TaskState, Option<bool>, CheckResult),
    ) {
        assert!(self.agents.contains_key(agent));
        let update =
            Update { agent: Some(agent.clone()), healthy, check, ..Update::bare(task.clone(), state) };
        self.said += 1;
        self.coming.insert((self.now.after(after), self.said), update);
    }
}
