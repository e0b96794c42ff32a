//! Plain Mesos, set up as its packages do, with agents that have no CNI: flags, restarts, and plugins that are in use.

use std::time::Duration;

use cluster::probe::{Probe, ProbeHandle, ProbeTask};
use cluster::{Cluster, Host, Platform, Progress, Spec, get_json, product, programs, test_lock};
use serde_json::{Value, json};

use crate::docker_store::INSTALLER;
use crate::{INSTALL, deployed, wait};

const LIMIT: Duration = Duration::from_mins(1);

fn sh(host: &Host<'_>, script: &str) -> String {
    let output = host.exec(&["sh", "-ec", script]).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    assert!(output.status.success(), "{script}: {} {}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// `cni apply` by hand, as the scheduler's task does it, with an artifact `calico` of this path.
fn apply(cluster: &Cluster, host: &Host<'_>, calico: &str) -> String {
    let artifact = |path: &str| format!("{path}#sha256=$(sha256sum <{path} | cut -d' ' -f1)");
    let etcd = cluster.etcd_endpoint();
    let ipam = artifact("/root/calico-ipam");
    sh(
        host,
        &format!(
            "{INSTALLER} cni apply --network-name calico --etcd-endpoints {etcd} --cni-label-wrapper \
             --artifacts-cni {} --artifacts-cni-ipam {ipam}",
            artifact(calico)
        ),
    )
}

/// A task on the network, with this label.
fn task(probe: &Probe, host: &Host<'_>, name: &str, label: &str) -> ProbeHandle {
    probe.launch(ProbeTask {
        name: name.to_owned(),
        hostname: host.address().to_string(),
        network: Some("calico".to_owned()),
        network_labels: [("group".to_owned(), label.to_owned())].into(),
        command: "sleep 1000".to_owned(),
        ..ProbeTask::default()
    })
}

/// All labels that containers on the network have in Calico's datastore.
fn labels(cluster: &Cluster) -> String {
    let key = "/calico/resources/v3/projectcalico.org/workloadendpoints/";
    let etcdctl = format!("ETCDCTL_API=3 etcdctl --endpoints {} get --prefix {key}", cluster.etcd_endpoint());
    sh(&cluster.hosts().unwrap()[0], &etcdctl)
}

#[test]
fn agents_without_cni_are_given_it_by_one_restart_each_and_plugins_are_replaced_under_running_tasks() {
    let _lock = test_lock().unwrap();
    let without_cni = ["PLUGINS", "CONFIG"].map(|it| (format!("MESOS_NETWORK_CNI_{it}_DIR"), String::new()));
    let spec = Spec {
        name: "e2e-plain".to_owned(),
        agents: 2,
        platform: Platform::Mesos,
        agent_env: without_cni.into(),
        ..Spec::default()
    };
    let cluster = Cluster::up(&spec, &Progress::stderr()).unwrap();
    let hosts = cluster.hosts().unwrap();
    let files =
        "find /etc -newer /etc/hostname -type f | sort; find /opt /etc/cni -maxdepth 2 | sort || true";
    let before: Vec<String> = hosts.iter().map(|host| sh(host, files)).collect();
    let starts = |host: &Host<'_>| {
        sh(host, "journalctl -q -o cat -u 'mesos-*' | grep -c '^Started'").parse::<u32>().unwrap()
    };
    let started: Vec<u32> = hosts.iter().map(starts).collect();
    let ids: Vec<String> = hosts.iter().map(|host| host.agent_id().unwrap()).collect();
    let probe = Probe::connect(&cluster.master_urls()[0]).unwrap();
    let bystander = probe.launch(ProbeTask {
        name: "bystander".to_owned(),
        hostname: hosts[0].address().to_string(),
        command: "sleep 1000".to_owned(),
        ..ProbeTask::default()
    });
    bystander.wait_running(LIMIT).unwrap();

    let options = json!({"cni": {"label-wrapper": true}, "rollout": {"stability": "1s"}});
    // Without permission they wait, and nothing was changed.
    let mut scheduler = product::install(&cluster, &options).unwrap();
    let waiting = || {
        let agents = scheduler.api().agents().ok()?;
        let waits = agents.iter().filter(|agent| agent.reason.contains("mesos.allow-restart")).count();
        (waits == 2).then_some(agents)
    };
    wait("both agents to need a restart", INSTALL, waiting);
    for (host, before) in hosts.iter().zip(&before) {
        assert_eq!(&sh(host, files), before);
    }
    // With it they are restarted, one after the other, and are who they were.
    scheduler.process().kill().unwrap();
    scheduler.restart_with(&[("CALICO_MESOS_ALLOW_RESTART", "true")]).unwrap();
    scheduler.api().wait_alive(Duration::from_secs(20)).unwrap();
    deployed(&scheduler, 2);
    for (host, id) in hosts.iter().zip(&ids) {
        assert_eq!(&host.agent_id().unwrap(), id);
        let flags = get_json(&format!("http://{}:5051/flags", host.address())).unwrap();
        assert_eq!(flags["flags"]["network_cni_config_dir"], "/etc/cni/net.d");
    }
    let once_more: Vec<u32> = started.iter().map(|starts| starts + 1).collect();
    assert_eq!(hosts.iter().map(starts).collect::<Vec<_>>(), once_more);
    assert_eq!(sh(&hosts[0], "cat /etc/mesos-slave/network_cni_plugins_dir"), "/opt/cni/bin");
    let variable = "MESOS_NETWORK_CNI_PLUGINS_DIR=\"/opt/cni/bin\"";
    assert_eq!(sh(&hosts[1], "grep CNI_PLUGINS /etc/default/mesos-agent"), variable);

    // A label that Calico would refuse.
    let long = format!("{}-{}", "x".repeat(40), "y".repeat(40));
    let running: Vec<_> = hosts.iter().map(|host| task(&probe, host, "labelled", &long)).collect();
    for task in &running {
        task.wait_running(LIMIT).unwrap();
    }
    let said = labels(&cluster);
    assert_eq!(said.matches(&format!("...{}", &long[long.len() - 53..])).count(), 2, "{said}");

    // By hand: another plugin while a task runs, whose end needs it; then all of them lost. A scheduler would put back what
    // it has put there, and looks after each registration.
    scheduler.process().kill().unwrap();
    let host = &hosts[0];
    for name in ["calico", "calico-ipam"] {
        std::fs::copy(programs::find(name).unwrap(), host.root().join("root").join(name)).unwrap();
    }
    std::fs::copy(programs::find("calico-installer").unwrap(), host.root().join(&INSTALLER[1..])).unwrap();
    sh(host, "cp /root/calico /root/newer; echo more >>/root/newer; chmod +x /root/*");
    assert!(apply(&cluster, host, "/root/newer").contains("calico-impl: its content differs"));
    let during = task(&probe, host, "during", "short");
    during.wait_running(LIMIT).unwrap();
    sh(host, "rm -r /opt/cni");
    let said = apply(&cluster, host, "/root/newer");
    assert!(said.contains("make the directory /opt/cni"), "{said}");
    assert!(apply(&cluster, host, "/root/newer").contains("nothing to do"));
    let refused =
        host.exec(&[INSTALLER, "cni", "undo", "--network-name", "calico", "--allow-restart"]).unwrap();
    assert_eq!(refused.status.code(), Some(69), "without etcd or --mesos-agent it cannot find the agent");
    let agent = format!("http://{}:5051", host.address());
    let undo =
        [INSTALLER, "cni", "undo", "--network-name", "calico", "--allow-restart", "--mesos-agent", &agent];
    let refused = host.exec(&undo).unwrap();
    assert_eq!(refused.status.code(), Some(75), "two containers use it");
    for task in running.iter().chain([&during]) {
        task.kill(None);
        task.wait_finished(LIMIT).unwrap();
    }
    wait("no address in use", LIMIT, || (!labels(&cluster).contains("group")).then_some(()));
    assert!(
        bystander.status().unwrap().state() == mesos_v1::TaskState::TaskRunning,
        "a restart has ended it"
    );

    // All of it is taken back, the flags with one more restart.
    let undone = wait("the containers to be gone", LIMIT, || {
        let undone = host.exec(&undo).unwrap();
        (undone.status.code() != Some(75)).then_some(undone)
    });
    assert!(undone.status.success(), "{}", String::from_utf8_lossy(&undone.stderr));
    let flags: Value = get_json(&format!("{agent}/flags")).unwrap();
    assert_eq!(flags["flags"].get("network_cni_config_dir"), None);
    assert_eq!(sh(host, files), before[0]);
}
