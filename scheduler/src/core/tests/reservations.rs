//! Services' resources are reserved with their launch, and given back.

use std::time::Duration;

use super::super::resources::Claim;
use super::script::{Script, declined, killed, launch, state};
use super::*;

fn reserving() -> Settings {
    let mut settings = settings();
    settings.reservations =
        Reservations { service: "calico".into(), principal: Some("p".into()), roles: vec!["infra".into()] };
    settings
}

fn offered_to(role: &str, cpus: i64, mem: i64) -> Vec<Resource> {
    let part = |name, amount| Resource { allocated_to: role.into(), ..scalar(name, amount, None) };
    vec![part("cpus", cpus), part("mem", mem)]
}

fn reserved(task_type: TaskType, cpus: i64, mem: i64) -> Vec<Resource> {
    let mut resources = offered_to("infra", cpus, mem);
    for resource in &mut resources {
        resource.reserve("calico", Some("p"), task_type);
    }
    resources
}

/// The frame's one UNRESERVE.
fn unreserved(frame: &Frame) -> Option<Vec<Resource>> {
    frame.effects.iter().find_map(|effect| match effect {
        Effect::Unreserve { resources, .. } => Some(resources.clone()),
        _ => None,
    })
}

#[test]
fn a_service_is_launched_on_what_is_reserved_with_it_and_an_install_is_not() {
    let mut script = Script::with_agents(reserving(), &["a"]);
    let init = launch(&script.offer_of("a", offered_to("infra", 4000, 1_000_000))).unwrap();
    assert_eq!((init.task_type, init.reserve), (TaskType::ClusterInit, vec![]));
    script.finished("a", &init.task);

    let proxy = launch(&script.offer_of("a", offered_to("infra", 4000, 1_000_000))).unwrap();
    let paid = reserved(TaskType::EtcdProxy, 100, 64_000);
    assert_eq!((proxy.task_type, &proxy.resources, &proxy.reserve), (TaskType::EtcdProxy, &paid, &paid));

    // Its replacement takes them, and reserves what more it needs.
    script.reports("a", &proxy.task, state(TaskState::Running));
    script.failed("a", &proxy.task, "killed");
    script.wait(Duration::from_secs(10));
    let mut offer = reserved(TaskType::EtcdProxy, 60, 64_000);
    offer.extend(offered_to("infra", 4000, 0));
    let again = launch(&script.offer_of("a", offer)).unwrap();
    assert_eq!(again.reserve, reserved(TaskType::EtcdProxy, 40, 0)[..1]);
    let cpus: Vec<&Resource> = again.resources.iter().filter(|r| r.name == "cpus").collect();
    assert_eq!(cpus, [&reserved(TaskType::EtcdProxy, 60, 0)[0], &again.reserve[0]]);
}

#[test]
fn what_is_offered_in_another_role_is_sent_away_and_used_when_nothing_comes_in_ours() {
    let mut script = Script::with_agents(reserving(), &["a"]);
    script.reaches("a", TaskType::ClusterInit);
    let offer = || offered_to("*", 4000, 1_000_000);
    for _ in 0..2 {
        let frame = script.offer_of("a", offer());
        assert_eq!((launch(&frame), declined(&frame)), (None, Some(Duration::from_secs(5))));
        script.wait(Duration::from_secs(14));
    }
    script.wait(Duration::from_secs(2));
    let proxy = launch(&script.offer_of("a", offer())).unwrap();
    assert_eq!((proxy.reserve, proxy.resources), (vec![], offered_to("*", 100, 64_000)));
}

#[test]
fn a_master_that_does_not_reserve_is_not_asked_for_a_while() {
    let mut script = Script::with_agents(reserving(), &["a"]);
    script.reaches("a", TaskType::ClusterInit);
    let offer = || offered_to("infra", 4000, 1_000_000);
    let proxy = launch(&script.offer_of("a", offer())).unwrap();
    let words = "Total resources cpus:0.1 required by task and its executor is more than available cpus:4";
    let frame = script.failed("a", &proxy.task, words);
    let said = frame.decisions.iter().any(|decision| matches!(decision, Decision::NotReserved { .. }));
    let reason = script.agent_view("a").reason;
    assert!(said && reason.contains("could not be reserved") && reason.contains(words), "{reason}");

    script.wait(Duration::from_secs(10));
    let proxy = launch(&script.offer_of("a", offer())).unwrap();
    assert_eq!(proxy.reserve, []);
    script.failed("a", &proxy.task, "killed");
    script.wait(Duration::from_mins(15));
    let proxy = launch(&script.offer_of("a", offer())).unwrap();
    assert_ne!(proxy.reserve, []);
    // A task that ran had its resources: whatever ends it now is something else.
    script.reports("a", &proxy.task, state(TaskState::Running));
    script.failed("a", &proxy.task, words);
    script.wait(Duration::from_mins(1));
    assert_ne!(launch(&script.offer_of("a", offer())).unwrap().reserve, []);
}

#[test]
fn what_nobody_needs_is_given_back_and_nothing_else() {
    let mut script = Script::with_agents(settings(), &["a"]);
    script.install("a");
    script.restart_with(reserving());
    script.subscribed();
    script.agents(&["a"]);
    let surplus = reserved(TaskType::EtcdProxy, 100, 64_000);
    let mut offer = surplus.clone();
    offer.extend(offered_to("infra", 1000, 0));
    let frame = script.offer_of("a", offer.clone());
    assert_eq!((unreserved(&frame), declined(&frame)), (Some(surplus), None));

    // Another's is left alone; that of a service which is to be launched is kept.
    let mut others = offered_to("infra", 100, 64_000);
    for resource in &mut others {
        resource.reserve("other", Some("p"), TaskType::EtcdProxy);
    }
    assert_eq!(unreserved(&script.offer_of("a", others)), None);
    let mut script = Script::with_agents(reserving(), &["a"]);
    script.reaches("a", TaskType::ClusterInit);
    let frame = script.offer_of("a", reserved(TaskType::CalicoNode, 100, 64_000));
    assert_eq!((launch(&frame), unreserved(&frame)), (None, None));
    assert!(declined(&frame).is_some());
    // Unless the operator does not want it there any more.
    let mut off = reserving();
    off.specs.get_mut(&TaskType::CalicoNode).unwrap().enabled = false;
    script.restart_with(off);
    script.subscribed();
    script.agents(&["a"]);
    let frame = script.offer_of("a", reserved(TaskType::CalicoNode, 100, 64_000));
    assert_eq!(unreserved(&frame), Some(reserved(TaskType::CalicoNode, 100, 64_000)));
}

#[test]
fn offers_are_let_in_for_what_is_left_reserved_when_a_service_has_ended_and_when_a_scheduler_begins() {
    let mut script = Script::with_agents(settings(), &["a"]);
    let tasks = script.install("a");
    let mut off = reserving();
    off.specs.get_mut(&TaskType::EtcdProxy).unwrap().enabled = false;
    script.restart_with(off);
    script.subscribed();
    // All is done, and nothing is known of what is reserved.
    let has = |frame: &Frame, effect: &Effect| frame.effects.contains(effect);
    let frame = script.agents(&["a"]);
    assert!(has(&frame, &Effect::Revive) && !has(&frame, &Effect::Suppress), "{frame:?}");
    let surplus = reserved(TaskType::EtcdProxy, 40, 0);
    assert_eq!(unreserved(&script.offer_of("a", surplus.clone())), Some(surplus));
    assert!(!has(&script.wait(Duration::from_secs(9)), &Effect::Suppress));
    assert!(has(&script.wait(Duration::from_secs(1)), &Effect::Suppress));

    // It runs on until it ends by itself.
    let frame = script.failed("a", &tasks[1], "killed");
    assert!(has(&frame, &Effect::Revive), "{frame:?}");
    let surplus = reserved(TaskType::EtcdProxy, 100, 64_000);
    assert_eq!(unreserved(&script.offer_of("a", surplus.clone())), Some(surplus));
    assert!(has(&script.wait(Duration::from_secs(10)), &Effect::Suppress));
    // What is wanted is launched again, and gives nothing back.
    script.failed("a", &tasks[3], "killed");
    script.wait(Duration::from_secs(10));
    let node = launch(&script.offer_of("a", offered_to("infra", 1000, 256_000))).unwrap();
    assert!(has(&script.ready("a", &node.task), &Effect::Suppress));
}

/// The frame's one RESERVE without a launch.
fn reserved_ahead(frame: &Frame) -> Option<Vec<Resource>> {
    frame.effects.iter().find_map(|effect| match effect {
        Effect::Reserve { resources, .. } => Some(resources.clone()),
        _ => None,
    })
}

/// All is installed in our role; then calico-node is to have 40 thousandths of a CPU and 192 MB more.
fn growing() -> Script {
    let mut settings = reserving();
    settings.specs.insert(
        TaskType::Prefetch,
        Spec::new(Goal::Finished, Needs { cpus: 100, mem: 64_000 }, "prefetch".into()),
    );
    let define = |settings: &mut Settings| {
        let definition = |(task_type, spec): (&TaskType, &Spec)| {
            let (goal, needs, template) = (spec.goal, spec.needs, spec.target.to_string());
            (spec.target.clone(), Definition { task_type: *task_type, goal, needs, template })
        };
        settings.rollout.definitions = settings.specs.iter().map(definition).collect();
    };
    define(&mut settings);
    let mut script = Script::with_agents(settings.clone(), &["a"]);
    let mut ready = Vec::new();
    for task_type in [TaskType::ClusterInit, TaskType::EtcdProxy, TaskType::Cni, TaskType::CalicoNode] {
        let launch = launch(&script.offer_of("a", offered_to("infra", 4000, 1_000_000))).unwrap();
        assert_eq!(launch.task_type, task_type);
        match settings.specs[&task_type].goal {
            Goal::Finished => drop(script.finished("a", &launch.task)),
            Goal::Running { .. } => {
                script.ready("a", &launch.task);
                ready.push(launch.task);
            }
        }
    }
    let node = settings.specs.get_mut(&TaskType::CalicoNode).unwrap();
    (node.needs, node.target) = (Needs { cpus: 140, mem: 256_000 }, "bigger".into());
    define(&mut settings);
    script.restart_with(settings);
    script.resumes(&["a"]);
    for task in ready {
        script.update("a", &task, script::ready());
    }
    let fetch = launch(&script.offer_of("a", offered_to("infra", 4000, 1_000_000))).unwrap();
    script.finished("a", &fetch.task);
    script
}

#[test]
fn what_a_successor_needs_beyond_is_reserved_before_the_one_that_runs_is_ended() {
    let mut script = growing();
    // Too little: nothing is reserved, and nothing ended.
    let frame = script.offer_of("a", offered_to("infra", 4000, 100_000));
    assert_eq!((reserved_ahead(&frame), killed(&frame)), (None, vec![]));
    let frame = script.offer_of("a", offered_to("infra", 4000, 1_000_000));
    let beyond = reserved(TaskType::CalicoNode, 40, 192_000);
    assert_eq!((reserved_ahead(&frame), killed(&frame)), (Some(beyond.clone()), vec![]));
    assert_eq!(declined(&frame), None, "its offer is used");
    // It is there, and kept: now the one that runs goes.
    let mut offer = beyond.clone();
    offer.extend(offered_to("infra", 3900, 800_000));
    let frame = script.offer_of("a", offer.clone());
    assert_eq!((killed(&frame).len(), reserved_ahead(&frame), unreserved(&frame)), (1, None, None));
    let [ended] = &killed(&frame)[..] else { panic!("{frame:?}") };
    assert_eq!(unreserved(&script.offer_of("a", offer.clone())), None, "it is kept while that ends");
    script.failed("a", ended, "Command terminated with signal Terminated");
    // What both have is all that the successor takes.
    offer.extend(reserved(TaskType::CalicoNode, 100, 64_000));
    let node = launch(&script.offer_of("a", offer)).unwrap();
    assert_eq!((node.task_type, node.reserve), (TaskType::CalicoNode, vec![]));
    let ours = |resource: &Resource| matches!(resource.claim("calico"), Claim::Ours(_));
    assert!(node.resources.iter().all(ours), "{:?}", node.resources);
    script.ready("a", &node.task);
    // Nobody needs more than that.
    assert!(unreserved(&script.offer_of("a", beyond)).is_some());
}

#[test]
fn what_cannot_be_reserved_ahead_is_asked_for_three_times_and_then_done_without() {
    let mut script = growing();
    for _ in 0..3 {
        let frame = script.offer_of("a", offered_to("infra", 4000, 1_000_000));
        assert!(reserved_ahead(&frame).is_some() && killed(&frame).is_empty());
    }
    let frame = script.offer_of("a", offered_to("infra", 4000, 1_000_000));
    assert_eq!((killed(&frame).len(), reserved_ahead(&frame)), (1, None));
    let said = frame.decisions.iter().find_map(|decision| match decision {
        Decision::NotReserved { reason } => Some(reason.clone()),
        _ => None,
    });
    assert!(said.is_some_and(|said| said.contains("reserve_resources") && said.contains("on a:5051")));
    // Nor is anything reserved where operators do not want that.
    let mut script = growing();
    let mut settings = reserving();
    settings.reservations.roles.clear();
    let node = settings.specs.get_mut(&TaskType::CalicoNode).unwrap();
    (node.needs, node.target) = (Needs { cpus: 140, mem: 256_000 }, "bigger".into());
    script.restart_with(settings);
    script.resumes(&["a"]);
    let frame = script.offer_of("a", offered_to("infra", 4000, 1_000_000));
    assert_eq!((killed(&frame).len(), reserved_ahead(&frame)), (1, None));
}
