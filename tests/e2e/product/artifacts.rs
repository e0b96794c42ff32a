//! An artifact that is not what the operator configured.

use std::collections::BTreeSet;
use std::time::Duration;

use cluster::marathon::Scheduler;
use cluster::{Host, product};
use serde_json::json;

use crate::{INSTALL, up, wait};

/// Every file and folder where Calico could leave something: path, type, mode, size and time of the last change.
fn files(host: &Host<'_>) -> BTreeSet<String> {
    let find = "find /etc /opt /usr $(ls -d /var/lib/calico* /var/log/calico* 2>/dev/null) \
                -printf '%p %y %m %s %T@\\n'";
    let output = host.exec(&["sh", "-c", find]).unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn a_corrupt_artifact_changes_no_host_and_is_shown_with_its_reason() {
    let (_lock, cluster) = up("e2e-artifact");
    let app = product::app(&cluster, &json!({})).unwrap();
    let plugin = std::fs::read(cluster::programs::find("calico").unwrap()).unwrap();
    // As a broken mirror has it: the right length, one bit wrong.
    let mut corrupt = plugin.clone();
    corrupt[plugin.len() / 2] ^= 1;
    cluster.set_artifact("calico", &corrupt).unwrap();
    let hosts = cluster.hosts().unwrap();
    let before: Vec<_> = hosts.iter().map(files).collect();

    // An installer that is not the configured one is not even run.
    let mut wrong = app.clone();
    let uri = cluster.artifact("installer").unwrap();
    let configured = uri.split_once('#').unwrap().0.to_owned() + "#sha256=" + &"0".repeat(64);
    wrong["env"]["CALICO_ARTIFACTS_INSTALLER"] = configured.into();
    let mut scheduler = Scheduler::launch(&cluster, "scheduler", &wrong).unwrap();
    let api = scheduler.api().clone();
    wait("the reasons of all agents and of the cluster", INSTALL, || {
        let errors = api.deploy().ok()?.1.errors;
        let told = errors.iter().filter(|error| error.contains("calico-installer is not the artifact"));
        (told.count() == hosts.len() + 1).then_some(())
    });

    // A changed configuration lets what was held go on: to the plugin that is corrupt.
    scheduler.process().kill().unwrap();
    scheduler.restart_with(&[("CALICO_ARTIFACTS_INSTALLER", &uri)]).unwrap();
    let plan = wait("the plan to have errors on all agents", INSTALL, || {
        let (status, plan) = api.deploy().ok()?;
        let errors = plan.errors.iter().filter(|error| error.starts_with("cni"));
        (errors.count() == hosts.len() && plan.errors.len() == hosts.len()).then_some((status, plan))
    });
    assert_eq!((plan.0, plan.1.status.as_str()), (417, "ERROR"));
    for host in &hosts {
        let agent = wait("the reason from the task's sandbox", Duration::from_secs(20), || {
            let agent = api.agent(&format!("{}:5051", host.address())).ok()?;
            agent.reason.contains("SHA-256").then_some(agent)
        });
        let task = agent.task("cni").unwrap();
        assert_eq!((task.status.as_str(), task.failures), ("ERROR", 1));
        assert!(agent.reason.contains("calico") && agent.reason.contains("78"), "{}", agent.reason);
        // What comes after it was not tried.
        assert_eq!(agent.task("calico-node").unwrap().status, "PENDING");
    }
    for (host, before) in hosts.iter().zip(&before) {
        let after = files(host);
        let changes: Vec<_> = before.symmetric_difference(&after).collect();
        assert!(changes.is_empty(), "{} was changed: {changes:#?}", host.name());
    }

    // It stays so over a restart of the scheduler: nothing is forgotten, nothing is tried behind one's back.
    scheduler.process().kill().unwrap();
    scheduler.restart().unwrap();
    api.wait_alive(Duration::from_secs(20)).unwrap();
    wait("the plan after the restart", INSTALL, || {
        (api.deploy().ok()?.1.errors.len() == hosts.len()).then_some(())
    });
}
