//! The scheduler and its masters: it follows the one that leads, and says who it is.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster::marathon::Scheduler;
use cluster::{Cluster, Progress, Spec, get_json, product, test_lock};
use serde_json::json;

use crate::history::{Framework, framework, look};
use crate::watch::Watch;
use crate::{INSTALL, deployed, wait};

const PRINCIPAL: &str = "calico-framework";

/// How long there is no leader: many of our attempts, and of the agents'.
const LEADERLESS: Duration = Duration::from_secs(25);

/// The number of the master that leads; none while none does.
fn leader(cluster: &Cluster) -> Option<usize> {
    let urls = cluster.master_urls();
    let leads = |url: &String| get_json(&format!("{url}/master/state")).is_ok();
    urls.iter().position(leads).map(|index| index + 1)
}

/// What there must be after each disturbance: the tasks and the framework as they were `before`.
fn settled(cluster: &Cluster, scheduler: &Scheduler<'_>, before: &Framework) {
    wait("the return of agents and tasks", INSTALL, || {
        let now = look(&cluster.master_urls())?.framework?;
        (now.id == before.id && now.running() == before.running()).then_some(())
    });
    let connected = || {
        let url = &cluster.master_urls()[leader(cluster)? - 1];
        let state = get_json(&format!("{url}/master/state")).ok()?;
        state["frameworks"][0]["connected"].as_bool().filter(|connected| *connected)
    };
    wait("the framework's return", INSTALL, connected);
    deployed(scheduler, cluster.hosts().unwrap().len());
}

/// Starts the masters again that have ended, as what supervises them does.
fn supervise(cluster: &Cluster) {
    for number in 1..=cluster.master_urls().len() {
        let name = format!("master-{number}");
        if !cluster.process(&name).unwrap().is_running() {
            cluster.start_service(&name).unwrap();
        }
    }
}

#[test]
fn no_task_is_touched_by_a_killed_leader_by_zookeepers_absence_and_by_a_restart_of_all_masters() {
    let _lock = test_lock().unwrap();
    let spec = Spec { name: "e2e-masters".to_owned(), agents: 2, masters: 3, ..Spec::default() };
    let cluster = Cluster::up(&spec, &Progress::stderr()).unwrap();
    let state = format!("etcd://{}/state", cluster.etcd_endpoint().trim_start_matches("http://"));
    let options = json!({"mesos": {"master": cluster.mesos_master()}, "service": {"state": state}});
    assert!(cluster.mesos_master().starts_with("zk://"));
    let scheduler = product::install(&cluster, &options).unwrap();
    deployed(&scheduler, 2);
    let before = framework(&cluster);
    let count = |text: &str| scheduler.process().log().unwrap().matches(text).count();
    let launched = count(" is launched agent=");
    assert_eq!((count(": subscribed "), before.running().len()), (1, 4), "{before:#?}");
    let watch = Watch::start(&cluster, &scheduler);
    let process = |name: &str, number: usize| cluster.process(&format!("{name}-{number}")).unwrap();

    // The leader is killed.
    let old = leader(&cluster).unwrap();
    process("master", old).kill().unwrap();
    wait("another leader", INSTALL, || leader(&cluster).filter(|new| *new != old));
    settled(&cluster, &scheduler, &before);
    assert_eq!(count(": subscribed "), 2);
    // It waited for the leader, and did not ask the dead one again and again.
    assert!(count("cannot subscribe") < 10, "{}", scheduler.process().log().unwrap());
    supervise(&cluster);

    // ZooKeeper is away: the master that leads gives up with its session. One of its servers stays away for longer.
    let old = leader(&cluster).unwrap();
    (1..=3).for_each(|number| process("zookeeper", number).kill().unwrap());
    process("master", old).wait_gone(INSTALL).unwrap();
    wait("our word of a lost subscription", INSTALL, || (count("subscription ended") >= 2).then_some(()));
    std::thread::sleep(LEADERLESS);
    assert_eq!(leader(&cluster), None);
    assert_eq!(scheduler.api().get("/v1/health/live").unwrap().0, 200);
    for number in [1, 2] {
        cluster.start_service(&format!("zookeeper-{number}")).unwrap();
    }
    wait("a leader", INSTALL, || {
        supervise(&cluster);
        leader(&cluster)
    });
    settled(&cluster, &scheduler, &before);
    cluster.start_service("zookeeper-3").unwrap();

    // All masters at once.
    supervise(&cluster);
    (1..=3).for_each(|number| process("master", number).kill().unwrap());
    supervise(&cluster);
    wait("a leader", INSTALL, || leader(&cluster));
    settled(&cluster, &scheduler, &before);

    let seen = watch.end();
    assert!(seen.launched().is_empty() && seen.ended().is_empty(), "{seen:#?}");
    assert_eq!((count(" is launched agent="), count("killed: ")), (launched, 0));
}

/// The least that our principal must be permitted, as README.md has it; and what agents and the test's own eyes need.
fn acls() -> serde_json::Value {
    let (all, observer) = (json!({"type": "ANY"}), json!({"values": ["observer"]}));
    let own = json!({"values": [PRINCIPAL]});
    json!({
        "permissive": false,
        "register_frameworks": [{"principals": own, "roles": {"values": ["calico"]}}],
        "run_tasks": [{"principals": own, "users": {"values": ["root"]}}],
        "reserve_resources": [{"principals": own, "roles": {"values": ["calico"]}}],
        "register_agents": [{"principals": all, "agents": all}],
        "view_frameworks": [{"principals": observer, "users": all}],
        "view_tasks": [{"principals": observer, "users": all}],
        "view_executors": [{"principals": observer, "users": all}],
        "view_roles": [{"principals": observer, "roles": all}],
    })
}

#[test]
fn a_principal_with_its_secret_and_the_least_rights_is_let_in_and_others_are_told_why_not() {
    let _lock = test_lock().unwrap();
    let credentials = [(PRINCIPAL, "open sesame"), ("stranger", "open sesame"), ("observer", "eyes")];
    let credentials =
        credentials.map(|(principal, secret)| json!({"principal": principal, "secret": secret}));
    let credentials = json!({"credentials": credentials});
    let settings = [
        ("MESOS_AUTHENTICATE_HTTP_FRAMEWORKS", "true"),
        ("MESOS_AUTHENTICATE_HTTP_READONLY", "true"),
        ("MESOS_AUTHENTICATE_HTTP_READWRITE", "true"),
        ("MESOS_HTTP_FRAMEWORK_AUTHENTICATORS", "basic"),
        ("MESOS_CREDENTIALS", "/etc/mesos-credentials"),
        ("MESOS_ACLS", &acls().to_string()),
    ];
    let spec = Spec {
        name: "e2e-principal".to_owned(),
        agents: 1,
        master_env: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        master_files: BTreeMap::from([("/etc/mesos-credentials".to_owned(), credentials.to_string())]),
        ..Spec::default()
    };
    let cluster = Cluster::up(&spec, &Progress::stderr()).unwrap();
    let masters = [cluster.master_urls()[0].replace("://", "://observer:eyes@")];
    let secret = cluster.run_dir().join("secret");
    std::fs::write(&secret, "close sesame\n").unwrap();
    let options = json!({"service": {"principal": PRINCIPAL, "secret-file": secret, "role": "calico"}});
    let mut scheduler = product::install(&cluster, &options).unwrap();

    // The wrong secret: it says so, and asks ever more rarely.
    let said = |text: &str, log: &str| log.matches(text).count();
    let log = || cluster.process("scheduler").unwrap().log().unwrap();
    wait("what is wrong", INSTALL, || (said("cannot subscribe", &log()) >= 2).then_some(()));
    std::thread::sleep(Duration::from_secs(10));
    let text = log();
    assert!(
        text.contains("401 Unauthorized") && text.contains(&format!("principal '{PRINCIPAL}'")),
        "{text}"
    );
    assert!(said("cannot subscribe", &text) < 12, "{text}");
    assert!(!text.contains("sesame"), "{text}");
    assert_eq!(scheduler.api().deploy().unwrap().0, 202);
    scheduler.process().kill().unwrap();

    // The right one, of a principal without rights: that is for good.
    std::fs::write(&secret, "open sesame\n").unwrap();
    scheduler.restart_with(&[("CALICO_SERVICE_PRINCIPAL", "stranger")]).unwrap();
    scheduler.process().wait_gone(INSTALL).unwrap();
    let text = log();
    assert!(
        text.contains("does not permit this framework") && text.contains("register_frameworks"),
        "{text}"
    );

    scheduler.restart_with(&[("CALICO_SERVICE_PRINCIPAL", PRINCIPAL)]).unwrap();
    let watch = Watch::through(&masters, &cluster, &scheduler);
    deployed(&scheduler, 1);
    let state = get_json(&format!("{}/master/state", masters[0])).unwrap();
    assert_eq!(state["frameworks"][0]["principal"], PRINCIPAL);
    let reserved = &state["slaves"][0]["reserved_resources"]["calico"];
    assert!(reserved["cpus"].as_f64().is_some_and(|cpus| cpus > 0.0), "{reserved}");
    assert!(get_json(&format!("{}/master/state", cluster.master_urls()[0])).is_err(), "all doors are open");
    let seen = watch.end();
    assert!(seen.ended().iter().all(|task| task.state == "TASK_FINISHED"), "{seen:#?}");
    assert_eq!(seen.launched().len(), 4, "{seen:#?}");
}
