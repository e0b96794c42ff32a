//! Tasks and agents: updates until they are acknowledged, agents that come and go, masters that die.

use fake_master::{AgentRef, AgentSpec, End, Script, World};
use mesos_v1::TaskState::{TaskGone, TaskRunning, TaskUnknown};
use mesos_v1::scheduler::{Call, call, event};
use mesos_v1::task_status::Reason;
use mesos_v1::{FrameworkInfo, Offer, TaskState, TaskStatus, master};

use crate::scheduler::{Scheduler, cluster, info, seconds, task};

const A: fn() -> AgentRef = || AgentRef::nth(0);

/// A service on each agent, running and acknowledged.
fn running(world: &mut World) -> Scheduler {
    world.set_scripts(|_, _| Script::default());
    let mut scheduler = Scheduler::subscribe(world, &["*"]);
    for (number, offer) in scheduler.offers().iter().enumerate() {
        scheduler.launch(world, offer, task(&format!("t{number}"), offer, 1.0));
    }
    let states = scheduler.follow(world, seconds(2));
    assert_eq!(states.len(), 2 * world.agents());
    scheduler
}

fn reconcile(scheduler: &Scheduler, world: &mut World, tasks: &[(&str, Option<&str>)]) {
    let tasks = tasks.iter().map(|(task, agent)| call::reconcile::Task {
        task_id: (*task).into(),
        agent_id: agent.map(Into::into),
    });
    let reconcile = call::Reconcile { tasks: tasks.collect() };
    scheduler.accepted(
        world,
        call::Type::Reconcile,
        Call { reconcile: Some(reconcile), ..Default::default() },
    );
}

fn kill(scheduler: &Scheduler, world: &mut World, task: &str) {
    let kill = call::Kill { task_id: task.into(), ..Default::default() };
    scheduler.accepted(world, call::Type::Kill, Call { kill: Some(kill), ..Default::default() });
}

#[test]
fn an_update_is_sent_again_ever_more_rarely_until_it_is_acknowledged() {
    let mut world = cluster([AgentSpec::new("a")]);
    let mut scheduler = Scheduler::subscribe(&mut world, &["*"]);
    let offers = scheduler.offers();
    scheduler.launch(&mut world, &offers[0], task("t", &offers[0], 1.0));
    let mut times = Vec::new();
    let mut uuid = None;
    for second in 0..2000 {
        scheduler.wait(&mut world, seconds(1));
        for status in scheduler.updates() {
            assert_eq!(status.state(), TaskState::TaskStarting);
            assert_eq!(*uuid.get_or_insert(status.uuid.clone()), status.uuid);
            times.push(second);
        }
    }
    assert_eq!(times, [0, 10, 30, 70, 150, 310, 630, 1230, 1830]);

    // A wrong UUID changes nothing.
    let call = call::Acknowledge {
        agent_id: offers[0].agent_id.clone(),
        task_id: "t".into(),
        uuid: vec![0x40; 16].into(),
    };
    let call = Call { acknowledge: Some(call), ..Default::default() };
    scheduler.accepted(&mut world, call::Type::Acknowledge, call);
    scheduler.wait(&mut world, seconds(700));
    let again = scheduler.updates();
    assert_eq!(again.len(), 1);
    scheduler.acknowledge(&mut world, &again[0]);
    let states = scheduler.follow(&mut world, seconds(1));
    assert_eq!(states, [TaskRunning, TaskState::TaskFinished]);
    scheduler.wait(&mut world, seconds(3600));
    assert!(scheduler.updates().is_empty());
}

#[test]
fn a_new_subscription_gets_what_is_unacknowledged_at_once() {
    let mut world = cluster([AgentSpec::new("a")]);
    let mut scheduler = Scheduler::subscribe(&mut world, &["*"]);
    let offers = scheduler.offers();
    scheduler.launch(&mut world, &offers[0], task("t", &offers[0], 1.0));
    scheduler.wait(&mut world, seconds(15));
    let mut second = Scheduler::subscribe_as(&mut world, scheduler.info.clone());
    second.wait(&mut world, seconds(1));
    assert_eq!(second.updates().len(), 1);
}

#[test]
fn a_kill_ends_a_task_and_an_unknown_one_is_reconciled() {
    let mut world = cluster([AgentSpec::new("a")]);
    let mut scheduler = running(&mut world);
    kill(&scheduler, &mut world, "t0");
    kill(&scheduler, &mut world, "x");
    scheduler.wait(&mut world, seconds(0));
    let unknown = scheduler.updates();
    assert_eq!((unknown[0].state(), unknown[0].message()), (TaskUnknown, "Reconciliation: Task is unknown"));
    assert_eq!(scheduler.follow(&mut world, seconds(1)), [TaskState::TaskKilled]);
    assert_eq!(world.tasks_on(A()).count(), 0);
}

#[test]
fn reconciliation_answers_by_what_the_master_knows() {
    let mut world = cluster([AgentSpec::new("a")]);
    let mut scheduler = running(&mut world);
    let agent = world.agent_id(A()).unwrap().to_owned();
    reconcile(&scheduler, &mut world, &[]);
    reconcile(&scheduler, &mut world, &[("t0", None), ("x", Some(&agent)), ("x", None), ("x", Some("S9"))]);
    scheduler.wait(&mut world, seconds(0));
    let updates = scheduler.updates();
    let states: Vec<_> = updates.iter().map(TaskStatus::state).collect();
    assert_eq!(states, [TaskRunning, TaskRunning, TaskGone, TaskUnknown, TaskUnknown]);
    assert!(updates.iter().all(|status| status.uuid.is_none() && status.reason() == Reason::Reconciliation));
}

#[test]
fn a_partitioned_agent_is_unreachable_after_its_pings_and_its_tasks_run_again_when_it_is_back() {
    let mut world = cluster([AgentSpec::new("a")]);
    let mut scheduler = running(&mut world);
    let agent = world.agent_id(A()).unwrap().to_owned();
    world.partition_agent(A());
    scheduler.wait(&mut world, seconds(74));
    assert!(scheduler.updates().is_empty());
    scheduler.wait(&mut world, seconds(17));
    let lost = scheduler.updates();
    assert_eq!((lost[0].state(), lost[0].message()), (TaskState::TaskUnreachable, "health check timed out"));
    assert!(lost[0].unreachable_time.is_some());
    let kinds: Vec<_> = scheduler.events.iter().map(mesos_v1::scheduler::Event::r#type).collect();
    assert!(kinds.contains(&event::Type::Failure), "{kinds:?}");
    assert!(world.get_agents().agents.is_empty());
    reconcile(&scheduler, &mut world, &[("t0", Some(&agent)), ("t0", None)]);
    scheduler.wait(&mut world, seconds(0));
    let states: Vec<_> = scheduler.updates().iter().map(TaskStatus::state).collect();
    assert_eq!(states, [TaskState::TaskUnreachable, TaskUnknown]);
    assert_eq!(world.tasks_on(A()).count(), 1, "nobody told the agent");

    world.heal_agent(A());
    scheduler.wait(&mut world, seconds(5));
    let back = scheduler.updates();
    assert_eq!(back[0].state(), TaskRunning);
    assert_eq!(back[0].reason(), Reason::AgentReregistered);
    assert_eq!(world.get_agents().agents[0].agent_info.id.as_ref().unwrap().value, agent);
}

#[test]
fn a_short_partition_is_not_noticed() {
    let mut world = cluster([AgentSpec::new("a")]);
    let mut scheduler = running(&mut world);
    world.partition_agent(A());
    assert!(world.end_task(A(), "t0", &End::Code(3)));
    scheduler.wait(&mut world, seconds(60));
    assert!(scheduler.updates().is_empty());
    world.heal_agent(A());
    assert_eq!(scheduler.follow(&mut world, seconds(100)), [TaskState::TaskFailed]);
}

#[test]
fn a_restarted_agent_keeps_its_tasks_and_a_rebuilt_one_is_another() {
    let mut world = cluster([AgentSpec::new("a")]);
    let mut scheduler = running(&mut world);
    let before = world.agent_id(A()).unwrap().to_owned();
    world.stop_agent(A());
    assert!(!world.get_agents().agents[0].active);
    scheduler.wait(&mut world, seconds(30));
    world.start_agent(A());
    scheduler.wait(&mut world, seconds(5));
    assert!(scheduler.updates().is_empty());
    assert!(world.get_agents().agents[0].active);
    assert_eq!(world.agent_id(A()), Some(&*before));

    world.rebuild_agent(A());
    world.start_agent(A());
    scheduler.wait(&mut world, seconds(5));
    assert_ne!(world.agent_id(A()), Some(&*before));
    let lost = scheduler.updates();
    assert_eq!((lost[0].state(), lost[0].reason()), (TaskState::TaskLost, Reason::AgentRemoved));
    assert_eq!(world.get_agents().agents.len(), 1);
}

#[test]
fn a_launch_that_never_arrived_is_dropped_when_the_agent_is_back() {
    let mut world = cluster([AgentSpec::new("a")]);
    let mut scheduler = Scheduler::subscribe(&mut world, &["*"]);
    let offers = scheduler.offers();
    scheduler.launch(&mut world, &offers[0], task("t", &offers[0], 1.0));
    world.stop_agent(A());
    scheduler.wait(&mut world, seconds(5));
    world.start_agent(A());
    assert_eq!(scheduler.follow(&mut world, seconds(5)), [TaskState::TaskDropped]);
    assert!(world.master_tasks(scheduler.id()).is_empty());
}

#[test]
fn a_new_master_learns_of_tasks_from_agents_and_says_nothing_before() {
    let mut world = cluster(AgentSpec::many(3));
    let scheduler = running(&mut world);
    let agent = world.agent_id(A()).unwrap().to_owned();
    let lost = world.tasks_on(A()).next().unwrap().0.to_owned();
    world.partition_agent(A());
    world.elect_master();
    let mut scheduler = Scheduler::subscribe_as(&mut world, scheduler.info.clone());
    reconcile(&scheduler, &mut world, &[(&lost, Some(&agent)), ("x", None)]);
    scheduler.wait(&mut world, seconds(5));
    assert!(scheduler.updates().is_empty());
    // The one that it has not heard of is listed apart.
    let listed = world.get_agents();
    assert_eq!(listed.agents.len(), 2);
    let recovered: Vec<_> = listed.recovered_agents.iter().filter_map(|info| info.id.as_ref()).collect();
    assert!(recovered.len() == 1 && recovered[0].value == agent, "{recovered:?}");
    assert_eq!(world.master_tasks(scheduler.id()).len(), 2);
    // Then the agent has had its time.
    scheduler.wait(&mut world, seconds(600));
    assert_eq!(world.get_agents().recovered_agents, []);
    reconcile(&scheduler, &mut world, &[(&lost, Some(&agent)), ("x", None)]);
    scheduler.wait(&mut world, seconds(0));
    let states: Vec<_> = scheduler.updates().iter().map(TaskStatus::state).collect();
    assert_eq!(states, [TaskState::TaskUnreachable, TaskUnknown]);
}

#[test]
fn a_framework_that_stays_away_is_removed_with_its_tasks() {
    let mut world = cluster([AgentSpec::new("a")]);
    let scheduler = running(&mut world);
    world.disconnect(&scheduler.stream);
    world.advance(world.now() + seconds(3599));
    assert_eq!(world.tasks_on(A()).count(), 1);
    world.advance(world.now() + seconds(2));
    assert_eq!(world.tasks_on(A()).count(), 0);
    let mut again = Scheduler::subscribe_as(&mut world, scheduler.info.clone());
    assert_eq!(again.errors(), ["Framework has been removed"]);
}

#[test]
fn a_drained_agent_ends_its_tasks_and_is_offered_again_when_it_is_reactivated() {
    let mut world = cluster([AgentSpec::new("a")]);
    let mut scheduler = running(&mut world);
    scheduler.offers();
    let agent_id = world.agent_id(A()).unwrap();
    let drain = master::call::DrainAgent { agent_id: agent_id.into(), ..Default::default() };
    let reactivate = master::call::ReactivateAgent { agent_id: agent_id.into() };
    let call = master::Call {
        r#type: Some(master::call::Type::DrainAgent.into()),
        drain_agent: Some(drain),
        ..Default::default()
    };
    assert_eq!(world.operator(&call).unwrap_err(), (200, String::new()));
    let state = |world: &World| {
        let agent = &world.get_agents().agents[0];
        (agent.active, agent.deactivated(), agent.drain_info.map(|info| info.state().as_str_name()))
    };
    assert_eq!(state(&world), (false, true, Some("DRAINING")));
    assert_eq!(scheduler.follow(&mut world, seconds(2)), [TaskState::TaskKilled]);
    assert_eq!(state(&world), (false, true, Some("DRAINED")));
    assert!(scheduler.offers().is_empty());
    let call = master::Call {
        r#type: Some(master::call::Type::ReactivateAgent.into()),
        reactivate_agent: Some(reactivate),
        ..Default::default()
    };
    world.operator(&call).unwrap_err();
    scheduler.wait(&mut world, seconds(1));
    assert_eq!(scheduler.offers().len(), 1);
    assert_eq!(state(&world), (true, false, None));
}

#[test]
fn what_a_framework_left_running_is_there_when_it_subscribes() {
    let mut world = cluster([AgentSpec::new("a")]);
    let agent = world.agent_id(A()).unwrap().to_owned();
    let there = Offer { agent_id: agent.as_str().into(), ..Default::default() };
    let info = FrameworkInfo { id: Some("earlier".into()), ..info(&["*"]) };
    world.already_runs(A(), &info.clone().into(), &task("t", &there, 1.0)).unwrap();
    let mut scheduler = Scheduler::subscribe_as(&mut world, info);
    assert_eq!(world.master_tasks("earlier"), [("t", &*agent, TaskRunning)]);
    scheduler.wait(&mut world, seconds(2));
    let free = scheduler.offers().into_iter().flat_map(|offer| offer.resources);
    let cpus: f64 = free.filter(|r| r.name == "cpus").filter_map(|r| Some(r.scalar?.value)).sum();
    assert!((cpus - 3.0).abs() < 0.001, "{cpus}");
    reconcile(&scheduler, &mut world, &[("t", Some(&agent))]);
    assert_eq!(scheduler.follow(&mut world, seconds(2)), [TaskRunning]);
}
