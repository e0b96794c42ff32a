//! An install with options that are not the defaults, on an etcd that speaks TLS, directly and through proxies, and its CNI
//! part taken back by hand.

use std::time::Duration;

use cluster::probe::{Probe, ProbeTask};
use cluster::{Cluster, Host, get_json, product, proof};
use serde_json::{Value, json};

use crate::docker::sh;
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

/// An etcd with TLS, which wants certificates of its clients, and what its clients need, as artifacts that are fetched.
struct EtcdWithTls {
    url: String,
    key: String,
}

impl EtcdWithTls {
    const FILES: [&'static str; 3] = ["ca.pem", "cert.pem", "key.pem"];

    fn start(cluster: &Cluster, host: &Host<'_>) -> Self {
        let address = host.address();
        // As it is reached itself, and through a gateway.
        let names = [address.to_string(), "127.0.0.1".to_owned()];
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        // A proxy that speaks TLS for its clients takes no certificate with a name of its own.
        params.distinguished_name = rcgen::DistinguishedName::new();
        let key = rcgen::KeyPair::generate().unwrap();
        let (cert, key) = (params.self_signed(&key).unwrap().pem(), key.serialize_pem());
        for (name, text) in Self::FILES.into_iter().zip([&cert, &cert, &key]) {
            cluster.set_artifact(name, text.as_bytes()).unwrap();
            std::fs::write(host.root().join("root").join(name), text).unwrap();
        }
        let url = format!("https://{address}:3379");
        sh(
            host,
            &format!(
                "systemd-run -q --unit=etcd-tls etcd --data-dir=/run/etcd-tls --listen-client-urls={url} \
                 --advertise-client-urls={url} --client-cert-auth --trusted-ca-file=/root/ca.pem \
                 --cert-file=/root/cert.pem --key-file=/root/key.pem"
            ),
        );
        Self { url, key }
    }

    /// `etcd.*`
    fn options(&self, cluster: &Cluster) -> Value {
        let [ca, cert, key] = Self::FILES.map(|name| cluster.artifact(name).unwrap());
        json!({"proxy": "direct", "endpoints": self.url, "ca": ca, "cert": cert, "key": key})
    }

    /// Plugins reach it at `endpoint`: with TLS through files that only root reads, without it through none.
    fn is_reached(host: &Host<'_>, endpoint: &str) {
        let config =
            sh(host, "cat $(find /opt/mesosphere/etc/dcos/network/cni /etc/cni/net.d -name blue.conf)");
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["etcd_endpoints"], *endpoint);
        if endpoint.starts_with("http:") {
            // Those of before stay until all is taken back: a container leaves the network as it came to it.
            return assert_eq!(config["etcd_key_file"], Value::Null);
        }
        for (field, name) in [("ca_cert", "ca.pem"), ("cert", "cert.pem"), ("key", "key.pem")] {
            let file = config[format!("etcd_{field}_file")].as_str().unwrap();
            assert!(file.starts_with("/var/lib/calico-dcos/etcd/cni/") && file.ends_with(name), "{config}");
            assert_eq!(sh(host, &format!("stat -c '%a %U' {file}")), "600 root");
        }
    }

    /// Calico's data is there and nowhere else, and nobody is told of the key.
    fn is_used(&self, cluster: &Cluster, host: &Host<'_>) {
        let keys = format!(
            "ETCDCTL_API=3 etcdctl get --prefix --keys-only /calico --endpoints {}",
            cluster.etcd_endpoint()
        );
        assert_eq!(sh(host, &keys), "", "in the etcd without TLS");
        let secret = self.key.lines().nth(1).unwrap();
        let state = get_json(&format!("{}/state", cluster.master_urls()[0])).unwrap().to_string();
        assert!(state.contains("calico-node.") && !state.contains(secret), "the key is in a task");
    }
}

#[test]
fn another_network_on_an_etcd_with_tls_without_a_proxy_and_through_proxies_works_and_its_plugins_are_taken_back()
 {
    let (_lock, cluster) = up("e2e-options");
    let hosts = cluster.hosts().unwrap();
    let pace = json!({"strategy": "parallel", "max-concurrent-agents": "2", "stability": "1s"});
    let before: Vec<String> = hosts.iter().map(cni).collect();
    let etcd = EtcdWithTls::start(&cluster, &hosts[1]);
    let options = json!({
        "etcd": etcd.options(&cluster),
        "network": {"name": "blue", "pool-cidr": "10.20.0.0/24", "block-size": 28, "encapsulation": "none", "mtu": "1400"},
        "agents": {"exclude": format!("{}", hosts[1].address())},
        "rollout": pace,
    });
    let mut scheduler = product::install(&cluster, &options).unwrap();
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
    let proves = || {
        let mut proofs = Vec::new();
        let has_calico = |host: &Host<'_>| with_calico.contains(&host.address().to_string());
        proof::prove_on(&cluster, "blue", has_calico, |proof| proofs.push(proof.to_string())).unwrap();
        assert!(proofs.len() == 4 && proofs.iter().all(|proof| proof.contains("10.20.0.")), "{proofs:#?}");
    };
    proves();
    for host in [&hosts[0], &hosts[2]] {
        EtcdWithTls::is_reached(host, &etcd.url);
        etcd.is_used(&cluster, host);
    }

    // The same etcd through a proxy that speaks TLS for its clients, and through one that lets them do it.
    let modes = [("grpc-proxy", "http://127.0.0.1:2379"), ("gateway", "https://127.0.0.1:2379")];
    for (number, (mode, endpoint)) in (2..).zip(modes) {
        scheduler.process().kill().unwrap();
        scheduler.restart_with(&[("CALICO_ETCD_PROXY", mode)]).unwrap();
        if mode == "gateway" {
            // What is on the network could not leave it any more: that is to be done when nothing is.
            let refused = wait("the refusal", Duration::from_secs(30), || {
                let (_, rollout) = scheduler.api().get("/v1/rollout").ok()?;
                rollout["refused"][0].as_str().map(str::to_owned)
            });
            assert!(
                refused.contains("etcd.proxy would change from 'http://127.0.0.1:2379' to 'https://"),
                "{refused}"
            );
            for host in [&hosts[0], &hosts[2]] {
                wait("an empty network", Duration::from_mins(1), || {
                    sh(host, "ls /var/run/mesos/isolators/network/cni").is_empty().then_some(())
                });
            }
            scheduler.process().kill().unwrap();
            scheduler.restart_with(&[("CALICO_ROLLOUT_ALLOW_UNSAFE", "etcd.proxy")]).unwrap();
        }
        wait(mode, Duration::from_mins(2), || {
            let (_, rollout) = scheduler.api().get("/v1/rollout").ok()?;
            (rollout["number"] == number && rollout["stage"] == "complete").then_some(())
        });
        proves();
        for host in [&hosts[0], &hosts[2]] {
            EtcdWithTls::is_reached(host, endpoint);
            etcd.is_used(&cluster, host);
            let runs = sh(host, "pgrep -af 'etcd (gateway|grpc-proxy)'");
            assert!(runs.contains(mode), "{runs}");
        }
    }

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
        assert!(!host.root().join("var/lib/calico-dcos/etcd/cni").exists(), "{said}");
        let (status, said) = installer(host, &uri, &undo);
        assert_eq!(status, 0, "taking back twice is harmless: {said}");
    }
}
