//! What is done with offers, and with those that ask something back: reservations, maintenance, constraints.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cluster::marathon::Scheduler;
use cluster::probe::{Probe, ProbeTask};
use cluster::{Cluster, Host, Progress, Spec, get_json, product, test_lock};
use serde_json::{Value, json};

use crate::history::framework;
use crate::{INSTALL, deployed, operator, up, wait};

const ROLE: &str = "infra";

/// For which task types something is reserved on an agent in our role.
fn reserved(cluster: &Cluster, agent: &str) -> Vec<String> {
    let slaves = get_json(&format!("{}/master/slaves", cluster.master_urls()[0])).unwrap();
    let slaves = slaves["slaves"].as_array().unwrap().clone();
    let slave = slaves.iter().find(|slave| slave["id"] == agent).unwrap();
    let resources = slave["reserved_resources_full"][ROLE].as_array().cloned().unwrap_or_default();
    let labels = resources.iter().flat_map(|resource| {
        let reservations = resource["reservations"].as_array().unwrap();
        reservations.last().unwrap()["labels"]["labels"].as_array().cloned().unwrap_or_default()
    });
    let types = labels.filter(|label| label["key"] == "calico-dcos.task-type");
    let mut types: Vec<String> = types.map(|label| label["value"].as_str().unwrap().to_owned()).collect();
    types.sort();
    types.dedup();
    types
}

fn kill(host: &Host<'_>, what: &str) {
    wait("something to kill", Duration::from_secs(20), || {
        let killed = host.exec(&["pkill", "-9", "-f", &format!("calico-installer {what} run")]).unwrap();
        killed.status.success().then_some(())
    });
}

/// Waits until one more task of this type runs on the agent.
fn replaced(cluster: &Cluster, agent: &str, name: &str, before: usize) {
    wait("the replacement", INSTALL, || {
        let framework = framework(cluster);
        let all = framework.of(agent, name);
        (all.len() > before && all.last()?.state == "TASK_RUNNING").then_some(())
    });
}

fn schedule(cluster: &Cluster, windows: &Value) {
    let call = json!({
        "type": "UPDATE_MAINTENANCE_SCHEDULE",
        "update_maintenance_schedule": {"schedule": {"windows": windows}},
    });
    operator::call(cluster, &call);
}

/// Installs the product in a role of its own, in which what services take is reserved.
fn reserving(cluster: &Cluster, agents: usize) -> Scheduler<'_> {
    let secret = cluster.run_dir().join("secret");
    std::fs::write(&secret, "secret\n").unwrap();
    let options = json!({"service": {
        "role": format!("{ROLE},slave_public"), "principal": "calico", "secret-file": secret,
        "log": "info,calico_scheduler=debug",
    }});
    let scheduler = product::install(cluster, &options).unwrap();
    deployed(&scheduler, agents);
    scheduler
}

#[test]
fn a_service_keeps_its_room_under_pressure_and_gives_it_back_when_it_is_not_wanted() {
    let (_lock, cluster) = up("e2e-offers");
    let mut scheduler = reserving(&cluster, 3);
    let log = || cluster.process("scheduler").unwrap().log().unwrap();
    let agent = |name: &str| cluster.host(name).unwrap().agent_id().unwrap();

    // What is offered in our role is reserved for each service; a public agent's resources are DC/OS' as before.
    for name in ["host1", "host2"] {
        assert_eq!(reserved(&cluster, &agent(name)), ["calico-node", "etcd-proxy"], "{name}");
    }
    assert_eq!(reserved(&cluster, &agent("host3")), [""; 0]);

    // Another framework takes all the rest, and waits for more.
    let (host, id) = (cluster.host("host2").unwrap(), agent("host2"));
    let slaves = get_json(&format!("{}/master/slaves", cluster.master_urls()[0])).unwrap();
    let slaves = slaves["slaves"].as_array().unwrap().clone();
    let free = &slaves.iter().find(|slave| slave["id"] == id.as_str()).unwrap()["unreserved_resources"];
    let probe = Probe::connect(&cluster.master_urls()[0]).unwrap();
    let task = |name: &str, cpus, mem| ProbeTask {
        name: name.to_owned(),
        hostname: host.address().to_string(),
        command: "sleep 1000".to_owned(),
        cpus,
        mem,
        ..ProbeTask::default()
    };
    let all = probe.launch(task("all", free["cpus"].as_f64().unwrap(), free["mem"].as_f64().unwrap()));
    all.wait_running(INSTALL).unwrap();
    let more = probe.launch(task("more", 0.1, 32.0));

    // A service that dies is replaced where it was, for its room was kept.
    let sent = log().matches("call=\"UPDATE_FRAMEWORK\"").count();
    kill(&host, "node");
    replaced(&cluster, &id, "calico-node", 1);
    deployed(&scheduler, 3);
    assert!(more.status().is_none(), "{:?}", more.status());
    drop(probe);
    // And the offers of its agent alone were asked for: the master has taken that.
    assert!(log().matches("call=\"UPDATE_FRAMEWORK\"").count() > sent, "{}", log());
    let state = get_json(&format!("{}/master/frameworks", cluster.master_urls()[0])).unwrap();
    let ours =
        state["frameworks"].as_array().unwrap().iter().find(|f| f["name"] == "calico").unwrap().clone();
    let groups = &ours["offer_constraints"]["role_constraints"][ROLE]["groups"];
    let value = &groups[0]["attribute_constraints"][0]["predicate"]["text_equals"]["value"];
    assert_eq!(
        (groups.as_array().map(Vec::len), value.as_str()),
        (Some(1), Some(&*host.address().to_string()))
    );
    assert_eq!(log().matches(": subscribed ").count(), 1, "{}", log());

    // A service that is no longer wanted is ended in its agent's turn, and gives its room back. What one that is replaced
    // needs beyond is reserved before.
    let master = || cluster.process("master-1").unwrap().log().unwrap();
    let before = master().len();
    scheduler.process().kill().unwrap();
    let all_at_once =
        [("CALICO_ROLLOUT_STRATEGY", "parallel"), ("CALICO_ROLLOUT_MAX_CONCURRENT_AGENTS", "100%")];
    // No container of others is on the network, which could not leave it without the proxy.
    let direct = [
        ("CALICO_ETCD_PROXY", "direct"),
        ("CALICO_ROLLOUT_ALLOW_UNSAFE", "etcd.proxy"),
        ("CALICO_CALICO_NODE_MEM", "300"),
    ];
    scheduler.restart_with(&[&direct, &all_at_once[..]].concat()).unwrap();
    for name in ["host1", "host2"] {
        let given_back = || (reserved(&cluster, &agent(name)) == ["calico-node"]).then_some(());
        wait("what is given back", INSTALL, given_back);
    }
    replaced(&cluster, &id, "calico-node", 2);
    deployed(&scheduler, 3);
    let log = master();
    let lines: Vec<&str> = log[before..].lines().collect();
    let first = |words: &[&str]| lines.iter().position(|line| words.iter().all(|word| line.contains(word)));
    let reserved = first(&["Applying RESERVE operation", &id]);
    let ended = first(&["Processing KILL call for task 'calico-node.", &host.address().to_string()]);
    assert!(reserved.is_some() && reserved < ended, "{reserved:?}, {ended:?}: {lines:#?}");
}

#[test]
fn an_agent_in_maintenance_gets_nothing_new_until_that_is_taken_back() {
    let _lock = test_lock().unwrap();
    let spec = Spec { name: "e2e-maintenance".to_owned(), agents: 1, ..Spec::default() };
    let cluster = Cluster::up(&spec, &Progress::stderr()).unwrap();
    let scheduler = reserving(&cluster, 1);
    let host = cluster.host("host1").unwrap();
    let id = host.agent_id().unwrap();

    // Agreed, and shown.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_mins(10);
    let machine = json!({"hostname": host.address().to_string(), "ip": host.address().to_string()});
    let start = u64::try_from(now.as_nanos()).unwrap();
    schedule(
        &cluster,
        &json!([{
            "machine_ids": [machine],
            "unavailability": {"start": {"nanoseconds": start}, "duration": {"nanoseconds": 3_600_000_000_000_u64}},
        }]),
    );
    wait("our agreement", INSTALL, || {
        let status = operator::call(&cluster, &json!({"type": "GET_MAINTENANCE_STATUS"}));
        let machines = status["get_maintenance_status"]["status"]["draining_machines"].as_array()?.clone();
        let statuses = machines.first()?["statuses"].as_array()?.clone();
        statuses.iter().any(|status| status["status"] == "ACCEPT").then_some(())
    });
    let address = format!("{}:5051", host.address());
    let reason = || scheduler.api().agent(&address).unwrap().reason;
    wait("the reason", INSTALL, || reason().contains("goes down for maintenance from").then_some(()));
    // Nothing starts there until that is taken back.
    let before = framework(&cluster).of(&id, "calico-node").len();
    kill(&host, "node");
    wait("its wait", INSTALL, || {
        reason().starts_with("calico-node waits: the agent goes down").then_some(())
    });
    assert_eq!(framework(&cluster).of(&id, "calico-node").len(), before);
    schedule(&cluster, &json!([]));
    replaced(&cluster, &id, "calico-node", before);
    deployed(&scheduler, 1);
    assert_eq!(reason(), "");
}
