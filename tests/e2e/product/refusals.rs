//! Every way in which the master refuses us ends with what happened, what is kept, and what to do; tasks go on running
//! wherever they can.

use std::time::Duration;

use cluster::marathon::Scheduler;
use cluster::{Cluster, Progress, Spec, get_json, product, test_lock};
use serde_json::json;

use crate::history::framework;
use crate::rollouts::later;
use crate::{INSTALL, deployed, operator, wait};

const SOON: Duration = Duration::from_secs(30);

/// Waits until the process has ended; what it said last.
fn ended(scheduler: &Scheduler<'_>) -> String {
    let gone = scheduler.process().wait_gone(SOON);
    let log = scheduler.process().log().unwrap();
    assert!(gone.is_ok(), "it goes on:\n{log}");
    log.lines().last().unwrap_or_default().to_owned()
}

fn running(cluster: &Cluster) -> Vec<String> {
    let tasks = framework(cluster).tasks.into_iter().filter(|task| task.state == "TASK_RUNNING");
    tasks.map(|task| task.id).collect()
}

#[test]
fn a_refusal_says_what_happened_what_is_kept_and_what_to_do() {
    let _lock = test_lock().unwrap();
    let nobody = |role: &str| json!([{"principals": {"type": "NONE"}, "roles": {"values": [role]}}]);
    let acls = json!({"register_frameworks": nobody("closed"), "reserve_resources": nobody("bare")});
    let spec = Spec {
        name: "e2e-refusals".to_owned(),
        agents: 1,
        master_env: [("MESOS_ACLS".to_owned(), acls.to_string())].into(),
        ..Spec::default()
    };
    let cluster = Cluster::up(&spec, &Progress::stderr()).unwrap();
    let (secret, state) = (cluster.run_dir().join("secret"), cluster.run_dir().join("scheduler/state.json"));
    std::fs::write(&secret, "secret\n").unwrap();
    let options = json!({"service": {"principal": "one", "secret-file": secret, "role": "closed"}});
    let mut scheduler =
        Scheduler::launch(&cluster, "scheduler", &product::app(&cluster, &options).unwrap()).unwrap();

    // A role that the ACLs keep closed.
    let said = ended(&scheduler);
    assert!(
        said.starts_with("calico-scheduler: the master does not permit this framework: 'Not authorized"),
        "{said}"
    );
    assert!(said.contains("service.role") && said.contains("State is kept"), "{said}");

    // One in which nothing may be reserved: that is said, and the services are launched without.
    scheduler.restart_with(&[("CALICO_SERVICE_ROLE", "bare")]).unwrap();
    deployed(&scheduler, 1);
    let log = scheduler.process().log().unwrap();
    assert!(log.contains("could not be reserved") && log.contains("reserve_resources"), "{log}");
    let slaves = get_json(&format!("{}/master/slaves", cluster.master_urls()[0])).unwrap();
    assert_eq!(slaves["slaves"][0]["reserved_resources"], json!({}), "{slaves}");
    let (id, tasks) = (framework(&cluster).id, running(&cluster));
    assert_eq!(tasks.len(), 2, "{tasks:?}");

    // Another principal than at the first registration.
    scheduler.process().kill().unwrap();
    scheduler.restart_with(&[("CALICO_SERVICE_PRINCIPAL", "two")]).unwrap();
    let said = ended(&scheduler);
    assert!(said.starts_with("calico-scheduler: the master does not take this principal"), "{said}");
    assert!(said.contains("service.principal") && running(&cluster) == tasks, "{said}");

    // Another user: the framework keeps its first one, and goes on; the tasks wait for the rollout's window. What can change
    // is changed.
    let log = || cluster.process("scheduler").unwrap().log().unwrap();
    let subscribed = log().matches(": subscribed ").count();
    let changes = [
        ("CALICO_SERVICE_PRINCIPAL", "one"),
        ("CALICO_SERVICE_USER", "daemon"),
        ("CALICO_SERVICE_ROLE", "bare,second"),
        ("CALICO_SERVICE_FAILOVER_TIMEOUT", "200h"),
        ("CALICO_ROLLOUT_WINDOWS", &later().0),
    ];
    scheduler.restart_with(&changes).unwrap();
    wait("the subscription", INSTALL, || (log().matches(": subscribed ").count() > subscribed).then_some(()));
    deployed(&scheduler, 1);
    wait("the rollout that waits", INSTALL, || {
        let (_, rollout) = scheduler.api().get("/v1/rollout").ok()?;
        (rollout["waiting"] == 1 && rollout["held"].is_string()).then_some(())
    });
    let master = get_json(&format!("{}/master/state", cluster.master_urls()[0])).unwrap();
    assert_eq!(
        (&master["frameworks"][0]["user"], running(&cluster)),
        (&json!("root"), tasks.clone()),
        "{master}"
    );
    assert_eq!(master["frameworks"][0]["roles"], json!(["bare", "second"]));
    assert_eq!(master["frameworks"][0]["failover_timeout"].as_f64(), Some(720_000.0));
    let webui = format!("http://{}/", scheduler.api().address());
    assert_eq!(master["frameworks"][0]["webui_url"], webui.as_str());

    // Another scheduler with this framework's ID.
    let other = cluster.run_dir().join("other.json");
    std::fs::copy(&state, &other).unwrap();
    let options = json!({"service": {
        "principal": "one", "secret-file": secret, "role": "bare", "state": format!("file:{}", other.display()),
    }});
    let mut second =
        Scheduler::launch(&cluster, "second", &product::app(&cluster, &options).unwrap()).unwrap();
    let said = ended(&scheduler);
    assert!(
        said.starts_with("calico-scheduler: another scheduler has subscribed as this framework"),
        "{said}"
    );
    deployed(&second, 1);
    assert_eq!(framework(&cluster).id, id);
    wait("the same tasks, with no other beside them", INSTALL, || (running(&cluster) == tasks).then_some(()));

    // Removed, and started again.
    operator::teardown(&cluster, &id);
    for _ in 0..2 {
        let said = ended(&second);
        assert!(said.starts_with("calico-scheduler: this framework was removed"), "{said}");
        assert!(said.contains("give service.state another"), "{said}");
        assert!(std::fs::read_to_string(&other).unwrap().contains(&id), "the state is kept");
        second.restart().unwrap();
    }
    ended(&second);
}
