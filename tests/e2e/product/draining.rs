//! Agents that an operator takes out of use, and takes into use again.

use std::thread;
use std::time::Duration;

use cluster::{Cluster, Progress, Spec, post_json, test_lock};
use serde_json::json;

use crate::history::{Task, framework, look};
use crate::watch::Watch;
use crate::{INSTALL, deployed, installed, wait};

/// As long as it would take to launch again what was ended: the first wait is 1 s, the list of agents is read every 2 s.
const LAUNCHED_AGAIN: Duration = Duration::from_secs(8);

#[test]
fn what_is_drained_comes_back_when_the_agent_is_reactivated_and_not_before() {
    let _lock = test_lock().unwrap();
    let spec = Spec { name: "e2e-drain".to_owned(), agents: 2, ..Spec::default() };
    let cluster = Cluster::up(&spec, &Progress::stderr()).unwrap();
    let scheduler = installed(&cluster);
    let host = &cluster.hosts().unwrap()[1];
    let (address, id) = (format!("{}:5051", host.address()), host.agent_id().unwrap());
    let operator = |call: &str, more: serde_json::Value| {
        let mut body = json!({"agent_id": {"value": id}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let call = json!({"type": call, call.to_lowercase(): body});
        post_json(&format!("{}/api/v1", cluster.master_urls()[0]), &call).unwrap();
    };
    let live = || -> Vec<Task> {
        let tasks = framework(&cluster).tasks.into_iter();
        tasks.filter(|task| task.agent == id && !task.ended()).collect()
    };
    let said = || scheduler.api().agent(&address).unwrap();
    let watch = Watch::start(&cluster, &scheduler);
    let drained: Vec<String> = live().into_iter().map(|task| task.id).collect();
    assert_eq!(drained.len(), 2);

    operator("DRAIN_AGENT", json!({"max_grace_period": {"nanoseconds": 5_000_000_000_u64}}));
    wait("the end of the drain", INSTALL, || {
        let master = look(&cluster.master_urls())?;
        let listed = master.agents.into_iter().find(|agent| agent.id == id)?;
        (listed.drain.as_deref() == Some("DRAINED")).then_some(())
    });
    wait("our word of it", INSTALL, || {
        let said = said();
        (said.presence == "draining" && said.tasks.iter().all(|task| task.task_id.is_none())).then_some(())
    });
    thread::sleep(LAUNCHED_AGAIN);
    assert!(live().is_empty(), "{:#?}", live());
    // The others are complete, and the plan is theirs.
    deployed(&scheduler, 1);
    operator("REACTIVATE_AGENT", json!({}));
    deployed(&scheduler, 2);
    assert_eq!(said().presence, "active");
    let running = live();
    assert_eq!(running.len(), 2, "{running:#?}");

    // An agent that is only deactivated keeps what runs, and gets nothing new.
    operator("DEACTIVATE_AGENT", json!({}));
    wait("our word of it", INSTALL, || (said().presence == "deactivated").then_some(()));
    let node = running.iter().find(|task| task.name == "calico-node").unwrap();
    assert!(host.exec(&["pkill", "-9", "-f", "calico-installer node run"]).unwrap().status.success());
    wait("the end of the node task", INSTALL, || {
        said().task("calico-node").unwrap().task_id.is_none().then_some(())
    });
    thread::sleep(LAUNCHED_AGAIN);
    let left = live();
    assert!(left.len() == 1 && left[0].name == "etcd-proxy", "{left:#?}");
    operator("REACTIVATE_AGENT", json!({}));
    deployed(&scheduler, 2);

    let seen = watch.end();
    let mut ended: Vec<&str> = seen.ended().into_iter().map(|task| task.id.as_str()).collect();
    ended.sort_unstable();
    let mut expected: Vec<&str> = drained.iter().chain([&node.id]).map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(ended, expected, "{seen:#?}");
    assert_eq!(seen.launched().len(), 3, "{seen:#?}");
}
