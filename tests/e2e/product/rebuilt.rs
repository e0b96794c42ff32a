//! Agents whose registration ends: the same address, a new agent ID, and everything once more.

use cluster::{Cluster, Host, Progress, Spec, post_json, proof, test_lock};
use serde_json::json;

use crate::history::framework;
use crate::watch::Watch;
use crate::{INSTALL, ORDER, deployed, installed, wait};

/// Waits until a host's agent is registered under another ID than `old`.
fn new_id(host: &Host<'_>, old: &str) -> String {
    wait("a new agent ID", INSTALL, || host.agent_id().ok().filter(|id| !id.is_empty() && *id != old))
}

#[test]
fn agents_that_are_replaced_or_marked_gone_are_installed_again_under_their_new_ids() {
    let _lock = test_lock().unwrap();
    let spec = Spec { name: "e2e-rebuilt".to_owned(), ..Spec::default() };
    let cluster = Cluster::up(&spec, &Progress::stderr()).unwrap();
    let scheduler = installed(&cluster);
    let hosts = cluster.hosts().unwrap();
    let old: Vec<String> = hosts.iter().map(|host| host.agent_id().unwrap()).collect();
    let watch = Watch::start(&cluster, &scheduler);

    // A new machine at the address of one that broke: nothing of ours is on it.
    hosts[1].rebuild().unwrap();
    let replaced = new_id(&hosts[1], &old[1]);

    // An operator gives an agent up. Its host is as it was, but for the agent's memory of who it is.
    let address = format!("{}:5051", hosts[0].address());
    let gone = json!({"type": "MARK_AGENT_GONE", "mark_agent_gone": {"agent_id": {"value": old[0]}}});
    post_json(&format!("{}/api/v1", cluster.master_urls()[0]), &gone).unwrap();
    wait("our word of the agent that is gone", INSTALL, || {
        let said = scheduler.api().agent(&address).ok()?;
        (said.presence == "absent" && said.tasks.iter().all(|task| task.task_id.is_none())).then_some(())
    });
    let unit = hosts[0].agent_unit();
    let forget =
        format!("systemctl stop {unit} && rm -r /var/lib/mesos/slave/meta && systemctl start {unit}");
    assert!(hosts[0].exec(&["sh", "-c", &forget]).unwrap().status.success());
    let again = new_id(&hosts[0], &old[0]);

    wait("all agents under their new IDs", INSTALL, || {
        let said = scheduler.api().agents().ok()?;
        let known =
            |id: &String| said.iter().any(|agent| agent.agent_id == *id && agent.presence == "active");
        ([&again, &replaced, &old[2]].into_iter().all(known) && said.len() == 3).then_some(())
    });
    deployed(&scheduler, 3);

    let seen = watch.end();
    // What ended was on the two that are no more, or what is meant to end.
    let others = seen.ended().into_iter().filter(|task| !old[..2].contains(&task.agent));
    let killed: Vec<_> = others.filter(|task| task.name != "cni").collect();
    assert!(killed.is_empty(), "{killed:#?}");
    assert!(seen.launched().iter().all(|task| [&again, &replaced].contains(&&task.agent)), "{seen:#?}");
    let now = framework(&cluster);
    for (agent, name) in [&again, &replaced].into_iter().flat_map(|id| ORDER.map(|name| (id, name))) {
        let goal = if name == "cni" { "TASK_FINISHED" } else { "TASK_RUNNING" };
        let reached = now.of(agent, name).into_iter().filter(|task| task.state == goal).count();
        assert_eq!(reached, 1, "{name} on {agent}: {now:#?}");
    }
    proof::prove(&cluster, "calico", |proof| eprintln!("{proof}")).unwrap();
}
