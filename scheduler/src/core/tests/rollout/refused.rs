//! Configurations that are not followed, because they are not safe.

use super::*;

/// A name of the network: its change is not safe.
fn guarded(name: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("network.name".to_owned(), name.to_owned())])
}

#[test]
fn a_change_that_is_not_safe_is_refused_and_all_stay_as_they_are_until_it_is_allowed() {
    let mut settings = rollout(|_| ());
    settings.rollout.guarded = guarded("calico");
    let mut script = Script::with_agents(settings.clone(), &["a"]);
    script.install("a");
    let mut other = changed(settings, &[NODE], 2);
    other.rollout.guarded = guarded("blue");
    script.restart_with(other.clone());
    script.resumes(&["a"]);
    script.tells(&["a"]);
    let view = script.core.view();
    assert_eq!((view.update.status, view.rollout.number), (Status::Error, 1));
    assert!(view.update.errors[0].contains("rollout.allow-unsafe"), "{:?}", view.update.errors);
    // What dies and what joins gets what the others have.
    let node = script.task("a", NODE);
    script.failed("a", &node, "Command terminated with signal Killed");
    script.wait(SECOND);
    assert_eq!(launch(&script.offer("a")).unwrap().target.to_string(), "target of calico-node");
    other.rollout.allow_unsafe.insert("network.name".into());
    script.restart_with(other);
    script.resumes(&["a"]);
    assert_eq!(script.core.view().rollout.number, 2);
}

#[test]
fn what_goes_on_while_another_configuration_is_refused_is_fetched_and_taken_back_as_before() {
    let mut settings = rollout(|rollout| rollout.guarded = guarded("calico"));
    settings.rollout.strategy = RolloutStrategy::Serial;
    let mut script = updating(&settings, &["a"], &[NODE]);
    let mut refused = changed(settings, &[NODE], 3);
    refused.rollout.guarded = guarded("blue");
    script.restart_with(refused);
    script.resumes(&["a"]);
    script.tells(&["a"]);
    assert_eq!(script.core.view().rollout.refused.len(), 1);
    script.replaces_node("a");
}

#[test]
fn agents_of_a_state_from_before_there_were_rollouts_have_their_turn() {
    let settings = rollout(|_| ());
    let mut script = Script::with_agents(settings.clone(), &["a"]);
    script.install("a");
    // As its migration leaves it.
    (script.stored.cluster.rollout, script.stored.cluster.definitions) = Default::default();
    script.restart_with(changed(settings, &[NODE], 2));
    script.resumes(&["a"]);
    script.tells(&["a"]);
    script.replaces_node("a");
    assert_eq!(script.update_status(), Status::Complete);
}

#[test]
fn what_a_refused_configuration_has_no_more_needs_of_others_what_it_did() {
    let mut settings = with_definitions(docker_settings());
    settings.rollout.guarded = guarded("calico");
    let mut script = Script::with_agents(settings.clone(), &["a"]);
    script.install("a");
    // An unsafe change, and a task type that is disabled beside it.
    let mut other = changed(settings, &[], 2);
    other.rollout.guarded = guarded("blue");
    let disabled = other.specs.remove(&TaskType::Libnetwork).unwrap();
    other.rollout.unwanted.insert(TaskType::Libnetwork, disabled);
    script.restart_with(other);
    script.resumes(&["a"]);
    script.tells(&["a"]);
    assert_eq!(script.core.view().rollout.refused.len(), 1);
    // On a host that cannot have Docker's store its plugin is of no use, as ever.
    script.agents(&["a", "b"]);
    script.reaches("b", TaskType::EtcdProxy);
    let store = script.launches("b", TaskType::DockerClusterStore);
    script.failed("b", &store, "Command exited with status 80");
    script.reaches("b", TaskType::Cni);
    script.reaches("b", NODE);
    script.declines("b");
    assert!(script.agent_view("b").reason.contains("libnetwork is skipped: needs docker-cluster-store"));
}

#[test]
fn a_refused_configuration_is_not_launched_either_where_nobody_knows_what_it_was_before() {
    let settings = rollout(|rollout| rollout.guarded = guarded("calico"));
    let mut script = Script::with_agents(settings.clone(), &["a"]);
    script.install("a");
    let mut refused = changed(settings, &[NODE], 2);
    refused.rollout.guarded = guarded("blue");
    // As a scheduler leaves it that cannot read one.
    let definitions = script.stored.cluster.definitions.iter();
    let left = definitions.filter(|(_, definition)| definition.task_type != NODE);
    script.stored.cluster.definitions = Arc::new(left.map(|(t, d)| (t.clone(), d.clone())).collect());
    script.restart_with(refused);
    script.resumes(&["a"]);
    script.tells(&["a"]);
    for task_type in [NODE, TaskType::EtcdProxy] {
        let task = script.task("a", task_type);
        script.failed("a", &task, "Command terminated with signal Killed");
    }
    script.wait(SECOND);
    // What is as it was is launched as ever.
    script.reaches("a", TaskType::EtcdProxy);
    script.declines("a");
    let reason = script.agent_view("a").reason;
    assert!(
        reason.contains("calico-node is left as it is") && reason.contains("target of calico-node"),
        "{reason}"
    );
    script.agents(&["a", "b"]);
    script.reaches("b", TaskType::EtcdProxy);
    script.reaches("b", TaskType::Cni);
    script.declines("b");
}
