//! An install with options that are not the defaults, and its CNI part taken back by hand.

use std::time::Duration;

use cluster::probe::{Probe, ProbeTask};
use cluster::{Host, product, proof};
use serde_json::json;

use crate::{deployed, up, wait};

/// Fetches the installer and runs it in the host, as an operator would: status, and all that it wrote.
fn installer(host: &Host<'_>, uri: &str, arguments: &str) -> (i32, String) {
    let uri = uri.split('#').next().unwrap();
    let script = format!("cd /root && curl -sSfo i {uri} && chmod +x i && ./i {arguments} 2>&1");
    let output = host.exec(&["sh", "-c", &script]).unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Everything in the folders of CNI, and the content of the files.
fn cni(host: &Host<'_>) -> String {
    let script = "find /opt/cni /etc/cni /opt/mesosphere -printf '%p %y %m %U\\n' 2>/dev/null | sort; \
                  find /opt/cni /etc/cni /opt/mesosphere/etc/dcos/network -type f -exec sha256sum {} + 2>/dev/null | sort";
    String::from_utf8_lossy(&host.exec(&["sh", "-c", script]).unwrap().stdout).into_owned()
}

#[test]
fn another_network_without_a_proxy_works_and_its_plugins_are_taken_back() {
    let (_lock, cluster) = up("e2e-options");
    let hosts = cluster.hosts().unwrap();
    let before: Vec<String> = hosts.iter().map(cni).collect();
    let options = json!({
        "etcd": {"proxy": "direct"},
        "network": {"name": "blue", "pool-cidr": "10.20.0.0/24", "block-size": 28, "encapsulation": "none", "mtu": "1400"},
        "agents": {"exclude": format!("{}", hosts[1].address())},
    });
    let scheduler = product::install(&cluster, &options).unwrap();
    deployed(&scheduler, 2);

    // What is disabled is no step; the agent that is excluded has nothing of ours.
    let (_, plan) = scheduler.api().deploy().unwrap();
    assert_eq!(
        plan.phases.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(),
        ["cluster-init", "cni", "calico-node"]
    );
    let excluded = scheduler.api().agent(&format!("{}:5051", hosts[1].address())).unwrap();
    assert_eq!(excluded.presence, "excluded");
    assert!(excluded.tasks.iter().all(|task| task.status == "PENDING"), "{excluded:?}");
    assert_eq!(cni(&hosts[1]), before[1]);

    let with_calico = [hosts[0].address().to_string(), hosts[2].address().to_string()];
    let mut proofs = Vec::new();
    proof::prove_on(
        &cluster,
        "blue",
        |host| with_calico.contains(&host.address().to_string()),
        |proof| {
            proofs.push(proof.to_string());
        },
    )
    .unwrap();
    assert!(proofs.len() == 4 && proofs.iter().all(|proof| proof.contains("10.20.0.")), "{proofs:#?}");

    let uri = cluster.artifact("installer").unwrap();
    let probe = Probe::connect(&cluster.master_urls()[0]).unwrap();
    for (host, before) in [(&hosts[0], &before[0]), (&hosts[2], &before[2])] {
        let installed = cni(host);
        assert_ne!(installed, *before);
        let task = probe.launch(ProbeTask {
            name: "user".to_owned(),
            hostname: host.address().to_string(),
            network: Some("blue".to_owned()),
            command: "sleep 1000".to_owned(),
            ..ProbeTask::default()
        });
        task.wait_running(Duration::from_secs(30)).unwrap();
        let undo = format!("cni undo --network-name blue --mesos-agent http://{}:5051", host.address());
        let (status, said) = installer(host, &uri, &undo);
        assert!(
            status == 75 && said.contains("user-") && said.contains("containers use the network"),
            "{status} {said}"
        );
        assert_eq!(cni(host), installed);

        task.kill(None);
        let said = wait("the end of all users of the network", Duration::from_secs(30), || {
            let (status, said) = installer(host, &uri, &undo);
            assert!([0, 75].contains(&status), "{status} {said}");
            (status == 0).then_some(said)
        });
        assert_eq!(cni(host), *before, "{said}");
        let (status, said) = installer(host, &uri, &undo);
        assert_eq!(status, 0, "taking back twice is harmless: {said}");
    }
}
