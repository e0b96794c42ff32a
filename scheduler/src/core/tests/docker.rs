//! The task types of Docker: their order, what they need of each other, and hosts and clusters that cannot have them.

use std::time::Duration;

use super::script::{Script, launch, not_ready, state};
use super::*;

const NOT_HERE: &str = "Command exited with status 80";
const NOT_HERE_EXPLAINED: &str = "Command exited with status 80 (this host cannot have it)";

fn task_view(script: &Script, host: &str, task_type: TaskType) -> TaskView {
    script.agent_view(host).tasks.into_iter().find(|task| task.task_type == task_type).unwrap()
}

/// `a` has `cluster-init` and its proxy.
fn begun(settings: Settings) -> Script {
    let mut script = Script::with_agents(settings, &["a"]);
    script.reaches("a", TaskType::ClusterInit);
    script.reaches("a", TaskType::EtcdProxy);
    script
}

/// `docker-cluster-store` says that the host cannot have it.
fn skips_docker(script: &mut Script, host: &str) {
    let store = script.launches(host, TaskType::DockerClusterStore);
    let frame = script.failed(host, &store, NOT_HERE);
    assert!(frame.decisions.iter().any(|decision| matches!(decision, Decision::Skipped { .. })), "{frame:?}");
    let slot = Slot::Agent(AgentKey::from(format!("{host}:5051")), TaskType::DockerClusterStore);
    script.send(Input::Output { slot, task: store, text: "error: no Docker on this host".into() });
}

#[test]
fn the_store_comes_before_cni_the_plugin_last_and_the_network_when_the_plugin_is_ready() {
    let mut script = Script::with_agents(docker_settings(), &["a", "b"]);
    script.reaches("a", TaskType::ClusterInit);
    for task_type in [TaskType::EtcdProxy, TaskType::DockerClusterStore, TaskType::Cni, TaskType::CalicoNode]
    {
        script.reaches("a", task_type);
    }
    let waits = "docker-network waits for the first libnetwork to be ready";
    assert_eq!(script.step("docker-network.docker-network"), (Status::Pending, waits.into()));
    let plugin = script.launches("a", TaskType::Libnetwork);
    script.reports("a", &plugin, not_ready());
    script.declines("a");
    assert_eq!(script.step("docker-network.docker-network"), (Status::Pending, waits.into()));
    script.ready("a", &plugin);

    // Only where the plugin is ready.
    script.launches("b", TaskType::EtcdProxy);
    script.declines("b");
    let network = script.launches("a", TaskType::DockerNetwork);
    assert_eq!(script.step("docker-network.docker-network"), (Status::Starting, "launched".into()));
    script.finished("a", &network);
    assert_eq!(script.step("docker-network.docker-network"), (Status::Complete, "done".into()));
    let names: Vec<&str> = script.core.view().deploy.phases.iter().map(|phase| phase.name).collect();
    let deployed: Vec<TaskType> = docker_specs().into_keys().collect();
    assert_eq!(names, deployed.iter().map(|t| t.name()).collect::<Vec<_>>());
}

#[test]
fn the_network_waits_for_another_plugin_when_the_only_one_is_gone() {
    let mut script = begun(docker_settings());
    for task_type in [TaskType::DockerClusterStore, TaskType::Cni, TaskType::CalicoNode] {
        script.reaches("a", task_type);
    }
    let plugin = script.reaches("a", TaskType::Libnetwork);
    let network = script.launches("a", TaskType::DockerNetwork);
    script.failed("a", &network, "Command exited with status 69");
    script.reports("a", &plugin, not_ready());
    script.wait(Duration::from_mins(5));
    script.declines("a");
    script.restart();
    script.resumes(&["a"]);
    script.declines("a");
    script.ready("a", &plugin);
    script.launches("a", TaskType::DockerNetwork);
}

#[test]
fn what_a_host_cannot_have_is_skipped_with_what_needs_it_and_the_rest_goes_on() {
    let mut script = begun(docker_settings());
    skips_docker(&mut script, "a");
    script.reaches("a", TaskType::Cni);
    script.reaches("a", TaskType::CalicoNode);
    let said = format!("{NOT_HERE_EXPLAINED}: error: no Docker on this host");
    let view = script.agent_view("a");
    assert_eq!(view.status, Status::Complete);
    let reasons = [
        format!("docker-cluster-store is skipped: {said}"),
        format!("libnetwork is skipped: needs docker-cluster-store, which is skipped: {said}"),
    ];
    assert_eq!(view.reason, reasons.join("; "));
    let store = task_view(&script, "a", TaskType::DockerClusterStore);
    assert_eq!((store.status, store.skipped, store.failures), (Status::Complete, Some(said.clone()), 0));
    assert_eq!(script.step("docker-cluster-store.a:5051"), (Status::Complete, format!("skipped: {said}")));
    assert!(
        task_view(&script, "a", TaskType::Libnetwork).skipped.unwrap().contains("no Docker on this host")
    );

    // Nobody can have the network, and no offers are wanted for it.
    let skipped =
        "skipped: docker-network waits for the first libnetwork to be ready, and each agent skips it";
    assert_eq!(script.step("docker-network.docker-network"), (Status::Complete, skipped.into()));
    let plan = script.core.view().deploy;
    assert_eq!((plan.status, &plan.errors[..]), (Status::Complete, &[][..]));
    assert!(script.declines("a") >= Duration::from_mins(1));
    script.restart();
    script.resumes(&["a"]);
    assert!(script.declines("a") >= Duration::from_mins(1), "it is tried again for nothing");

    // Until one joins that may have it.
    script.agents(&["a", "b"]);
    assert_eq!(script.step("docker-network.docker-network").0, Status::Pending);
}

#[test]
fn what_was_skipped_is_judged_again_when_the_target_the_agent_or_its_mesos_is_another_or_it_was_away() {
    let settings = Settings { verify_interval: None, ..docker_settings() };
    let mut script = begun(settings.clone());
    skips_docker(&mut script, "a");
    script.reaches("a", TaskType::Cni);

    let mut changed = settings;
    changed.specs.get_mut(&TaskType::DockerClusterStore).unwrap().target = TargetHash("another".into());
    script.restart_with(changed);
    script.resumes(&["a"]);
    skips_docker(&mut script, "a");
    let node = script.launches("a", TaskType::CalicoNode);
    script.ready("a", &node);
    script.declines("a");

    script.send(Input::Agents(vec![Agent { version: "1.12.0".into(), ..agent("a", "S-a") }]));
    skips_docker(&mut script, "a");
    script.declines("a");

    script.agents(&[]);
    script.send(Input::Agents(vec![Agent { version: "1.12.0".into(), ..agent("a", "S-a") }]));
    skips_docker(&mut script, "a");
    script.declines("a");

    script.send(Input::Agents(vec![agent("a", "S-a2")]));
    let record = script.stored.agents.values().find(|record| !record.aside).unwrap();
    assert!(record.tasks.is_empty(), "{record:?}");
}

#[test]
fn a_task_of_the_cluster_that_one_host_cannot_do_is_tried_again() {
    let mut script = Script::with_agents(docker_settings(), &["a"]);
    let init = script.launches("a", TaskType::ClusterInit);
    script.failed("a", &init, NOT_HERE);
    script.wait(Duration::from_secs(1));
    script.launches("a", TaskType::ClusterInit);
}

#[test]
fn a_plugin_is_not_launched_where_the_store_is_not_configured() {
    let mut settings = docker_settings();
    settings.specs.remove(&TaskType::DockerClusterStore);
    let mut script = begun(settings);
    script.reaches("a", TaskType::Cni);
    script.reaches("a", TaskType::CalicoNode);
    let reason = "libnetwork is skipped: needs docker-cluster-store, which is not configured";
    assert_eq!(script.agent_view("a").reason, reason);
}

#[test]
fn in_a_cluster_of_too_many_agents_no_store_is_begun_and_none_is_given_up() {
    let mut settings = docker_settings();
    let spec = settings.specs.get_mut(&TaskType::DockerClusterStore).unwrap();
    spec.most_agents = Some(MostAgents { option: "docker.max-agents", number: 2 });
    settings.exclude = vec![Selector("x".into())];
    let mut script = Script::with_agents(settings, &["a", "b", "x"]);
    script.reaches("a", TaskType::ClusterInit);
    script.reaches("a", TaskType::EtcdProxy);
    script.reaches("b", TaskType::EtcdProxy);
    let store = script.launches("a", TaskType::DockerClusterStore);

    // A third one: what was begun goes on, with what needs it.
    script.agents(&["a", "b", "c", "x"]);
    script.finished("a", &store);
    for task_type in [TaskType::Cni, TaskType::CalicoNode, TaskType::Libnetwork] {
        script.reaches("a", task_type);
    }
    let reason = "more than docker.max-agents = 2 agents (there are 3)";
    assert_eq!(task_view(&script, "b", TaskType::DockerClusterStore).skipped, Some(reason.into()));
    script.reaches("a", TaskType::DockerNetwork);
    script.reaches("b", TaskType::Cni);
    script.reaches("b", TaskType::CalicoNode);
    let needs = format!("needs docker-cluster-store, which is skipped: {reason}");
    assert_eq!(task_view(&script, "b", TaskType::Libnetwork).skipped, Some(needs));
    assert!(script.declines("b") >= Duration::from_mins(1));

    // Those that are away still count, also after a restart: a new master does not know all of them at first.
    script.agents(&["a", "b", "x"]);
    script.restart();
    script.resumes(&["a", "b", "x"]);
    assert!(script.declines("b") >= Duration::from_mins(1));
    assert_eq!(task_view(&script, "a", TaskType::Libnetwork).skipped, None);

    // One is gone for good: the others get it.
    script.wait(Duration::from_hours(25));
    script.agents(&["a", "b", "x"]);
    script.agents(&["a", "b", "x"]);
    script.launches("b", TaskType::DockerClusterStore);
}

#[test]
fn where_there_are_more_agents_than_are_served_none_is_begun_and_all_that_has_begun_goes_on() {
    let mut settings = docker_settings();
    let because = "one block for each: give a larger pool".to_owned();
    settings.capacities = vec![Capacity { option: "network.pool-cidr", number: 2, because }];
    let mut script = Script::with_agents(settings, &["a", "b", "c"]);
    let refusal = "network.pool-cidr: there are 3 agents, and at most 2 are served: one block for each: give a larger pool";
    assert!(script.declines("a") >= Duration::from_mins(1), "not even the cluster's own");
    assert_eq!(script.agent_view("a").reason, refusal);
    let view = script.core.view();
    assert_eq!((view.deploy.status, view.preflight.len()), (Status::Pending, 1));
    assert_eq!((view.preflight[0].severity, &*view.preflight[0].text), ("fault", refusal));

    // One less, and all begins; the limit is near.
    script.agents(&["a", "b"]);
    script.wait(Duration::from_hours(25));
    script.agents(&["a", "b"]);
    script.agents(&["a", "b"]);
    script.reaches("a", TaskType::ClusterInit);
    script.reaches("a", TaskType::EtcdProxy);
    script.reaches("b", TaskType::EtcdProxy);
    assert_eq!(script.core.view().preflight[0].severity, "warning");

    // Another one joins: it alone gets nothing.
    script.agents(&["a", "b", "c"]);
    script.launches("a", TaskType::DockerClusterStore);
    assert!(script.declines("c") >= Duration::from_mins(1));
    assert_eq!(script.agent_view("c").reason, refusal);
}

#[test]
fn a_plugin_that_runs_is_left_alone_when_its_store_is_judged_again_and_skipped() {
    let mut script = begun(docker_settings());
    for task_type in [TaskType::DockerClusterStore, TaskType::Cni, TaskType::CalicoNode] {
        script.reaches("a", task_type);
    }
    let plugin = script.reaches("a", TaskType::Libnetwork);
    script.reaches("a", TaskType::DockerNetwork);
    let frame = script.update("a", &plugin, state(TaskState::Unreachable));
    assert_eq!(launch(&frame), None);
    script.ready("a", &plugin);
    assert_eq!(script.core.view().deploy.status, Status::Complete);
}
