//! The whole scheduler: its program, a master with tens of thousands of agents, and a real etcd.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use calico_scheduler::core::{State, StateChange, TaskType};
use calico_scheduler::tasks::Place;
use fake_master::{AgentRef, AgentSpec, Resources, Server, Settings, Traffic, World};
use mesos_v1::FrameworkInfo;
use mesos_v1::scheduler::{call, event};
use tokio::time::{Instant, sleep};

use crate::cluster::{Progress, state_of, tasks};
use crate::etcd::{Etcd, changes, store};
use crate::process::{Scheduler, cpu_of};
use crate::table::{Goal, Row, median};

const MANY: usize = 50_000;
const RESTARTS: usize = 5;
/// As `mesos.inventory-interval`: one list of agents is read in it.
const IDLE: Duration = Duration::from_mins(1);
const LONGEST: Duration = Duration::from_mins(2);

/// A master, the agents of which run what is stored of them: everything, but for `calico-node` where it is `lacking`.
fn world(agents: usize, lacking: Option<usize>) -> (World, State) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut world = World::new(now, 1, Settings::default());
    world.add_agents(AgentSpec::many(agents));
    world.advance(now + Duration::from_secs(5));
    let mut state = state_of(
        (0..agents).map(|n| world.agent_id(AgentRef::nth(n)).unwrap().to_owned()),
        Progress::Complete,
    );
    if let Some(lacking) = lacking {
        let record = state.agents.get_mut(&address(&world, lacking).as_str().into()).unwrap();
        Arc::make_mut(record).tasks.remove(&TaskType::CalicoNode);
    }
    let id = state.framework_id.as_ref().map(|id| id.0.as_str().into());
    let framework =
        Arc::new(FrameworkInfo { id, user: "root".to_owned(), checkpoint: Some(true), ..Default::default() });
    let (templates, specs, resources) =
        (tasks(), tasks().specs(), Resources::of(0.1, 64.0).messages(Some("*")));
    for n in 0..agents {
        let (agent, address) = (AgentRef::nth(n), address(&world, n));
        for (task_type, record) in &state.agents[&address.as_str().into()].tasks {
            let Some((task, id)) = record.phase.live() else { continue };
            let (address, resources) = (address.clone(), resources.clone());
            let place = Place {
                agent: id.clone(),
                address,
                may_restart: false,
                only_looks: false,
                prefetched: None,
                resources,
            };
            let info = templates.task_info(&specs[task_type].target, task, place).unwrap();
            world.already_runs(agent, &framework, &info).unwrap();
        }
    }
    (world, state)
}

fn address(world: &World, n: usize) -> String {
    format!("{}:5051", world.spec(AgentRef::nth(n)).hostname)
}

/// Waits until the master has seen this.
async fn seen(server: &Server, what: &str, is: impl Fn(&Traffic) -> bool) {
    let started = Instant::now();
    while !is(&server.traffic()) {
        assert!(started.elapsed() < LONGEST, "{what} is not seen: {:?}", server.traffic());
        sleep(Duration::from_millis(20)).await;
    }
}

/// Restarts with many agents, of which one lacks `calico-node`: until it is launched there. Then what memory is taken,
/// and what it costs to have nothing to do.
pub async fn many() -> Vec<Row> {
    let etcd = Etcd::start().await;
    let url = etcd.url("many");
    let (mut loading, mut restarts, mut spent) = (Vec::new(), Vec::new(), Vec::new());
    let (mut masters, mut etcds) = (Vec::new(), Vec::new());
    let mut rows = Vec::new();
    for round in 0..RESTARTS {
        let lacking = MANY / 2;
        let (world, state) = world(MANY, Some(lacking));
        if round == 0 {
            store(&url, &changes(&state)).await;
        } else {
            // It was launched in the round before.
            let record = &state.agents[&address(&world, lacking).as_str().into()];
            store(&url, &[StateChange::Agent(Arc::clone(record))]).await;
        }
        let server = Server::start(world).await.unwrap();
        let (master, stored) = (cpu_of("self"), etcd.cpu());
        let scheduler = Scheduler::start(&server.authority, &url);
        seen(&server, "a launch", |traffic| traffic.calls.contains_key(&call::Type::Accept)).await;
        spent.push(scheduler.cpu().as_secs_f64());
        masters.push(cpu_of("self").saturating_sub(master).as_secs_f64());
        etcds.push(etcd.cpu().saturating_sub(stored).as_secs_f64());
        let first = server.traffic().first;
        let after = |kind| first[&kind].duration_since(scheduler.began).as_secs_f64();
        loading.push(after(call::Type::Subscribe));
        restarts.push(after(call::Type::Accept));
        if round + 1 == RESTARTS {
            let (cost, calls) = idle(&server, &scheduler).await;
            let (resident, peak) = scheduler.memory();
            let what = format!("memory at most, {MANY} agents");
            rows.push(Row { what, value: peak, unit: "MB", goal: Goal::AtMost(150.0) });
            rows.push(Row {
                what: "memory once idle".to_owned(),
                value: resident,
                unit: "MB",
                goal: Goal::None,
            });
            rows.extend(idle_rows(MANY, cost, calls, Goal::None));
        }
        scheduler.end();
    }
    let what = format!("restart, {MANY} agents, until the one launch that is wanted");
    rows.push(Row { what, value: median(restarts), unit: "s", goal: Goal::AtMost(2.0) });
    for (what, values) in [
        ("of that, until all is loaded and it subscribes", loading),
        ("of that, the scheduler's processor time", spent),
        ("meanwhile, the master's processor time", masters),
        ("meanwhile, etcd's processor time", etcds),
    ] {
        rows.push(Row { what: what.to_owned(), value: median(values), unit: "s", goal: Goal::None });
    }
    rows
}

/// What an ordinary cluster costs when nothing is to be done.
pub async fn ordinary() -> Vec<Row> {
    const AGENTS: usize = 10_000;
    let etcd = Etcd::start().await;
    let (world, state) = world(AGENTS, None);
    let url = etcd.url("ordinary");
    store(&url, &changes(&state)).await;
    let server = Server::start(world).await.unwrap();
    let scheduler = Scheduler::start(&server.authority, &url);
    let (cost, calls) = idle(&server, &scheduler).await;
    scheduler.end();
    idle_rows(AGENTS, cost, calls, Goal::AtMost(0.1)).into()
}

/// Processor time in percent of one core, and offers and calls, while nothing is to be done.
async fn idle(server: &Server, scheduler: &Scheduler) -> (f64, u64) {
    seen(server, "SUPPRESS", |traffic| traffic.calls.contains_key(&call::Type::Suppress)).await;
    // What was on its way is done.
    sleep(Duration::from_secs(5)).await;
    let count = || {
        let traffic = server.traffic();
        let offers = traffic.events.get(&event::Type::Offers).copied().unwrap_or_default();
        (traffic.calls.values().sum::<u64>() + offers, traffic.operator)
    };
    let (before, lists) = count();
    let (start, cpu) = (Instant::now(), scheduler.cpu());
    sleep(IDLE).await;
    let spent = scheduler.cpu().saturating_sub(cpu);
    let percent = spent.as_secs_f64() / start.elapsed().as_secs_f64() * 100.0;
    let (after, later) = count();
    assert!(later > lists, "no list of agents was read");
    (percent, after - before)
}

fn idle_rows(agents: usize, percent: f64, calls: u64, goal: Goal) -> [Row; 2] {
    let calls = f64::from(u32::try_from(calls).unwrap());
    let what = format!("offers and calls while idle for a minute, {agents} agents");
    [
        Row { what: format!("processor while idle, {agents} agents"), value: percent, unit: "%", goal },
        Row { what, value: calls, unit: "", goal: Goal::AtMost(0.0) },
    ]
}
