use std::collections::BTreeSet;

use super::*;
use clap::CommandFactory;

mod bad_input;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_step_takes_its_options() {
    let artifact = |name: &str| format!("./{name}#sha256={}", "a".repeat(64));
    let etcd = "--etcd-endpoints http://10.0.0.1:2379,http://10.0.0.2:2379";
    let proxied = format!("{etcd} --etcd-proxy gateway --etcd-listen 127.0.0.1:2379");
    let network = "--network-name calico --network-pool-cidr 192.168.0.0/16 --network-block-size 26";
    let plugins =
        format!("--artifacts-cni {} --artifacts-cni-ipam {}", artifact("calico"), artifact("calico-ipam"));
    let cni =
        format!("{proxied} {plugins} --network-name calico --network-mtu 1450 --mesos-agent http://h:5051");
    let node = format!(
        "{proxied} --node-image r:8080/calico/node:v3.14.0 --node-profile v3 --network-encapsulation vxlan \
         --node-backend bird --node-ip 10.0.0.1 --node-name h --docker-socket /s --node-cpus 0.1 --node-mem 256.5"
    );
    for line in [
        format!("cni apply {cni} --cni-plugins-dir /p --cni-config-dir /c"),
        format!("cni check {cni}"),
        "cni undo --network-name calico --force".to_owned(),
        format!(
            "net-modules apply {proxied} --artifacts-net-modules {} --artifacts-calico-mesos {} --mesos-agent http://h:5051 \
             --mesos-platform dcos --mesos-unit u.service --mesos-patience 5 --allow-restart --state-dir /s",
            artifact("libmesos_network_isolator.so"),
            artifact("calico_mesos")
        ),
        "net-modules undo --etcd-endpoints http://h:2379 --platform mesos --allow-restart --force".to_owned(),
        format!("docker-cluster-store apply {proxied} --allow-restart"),
        format!(
            "docker-cluster-store check {proxied} --docker-cluster-store etcd://a:1,b:2/x --docker-cluster-advertise \
             10.0.0.1:2376 --docker-cluster-store-opts kv.path=a,discovery.ttl=9 --docker-max-agents 700 \
             --docker-replace-store --docker-settle 1 --docker-unit d.service --docker-daemon-json /d --docker-socket /s"
        ),
        "docker-cluster-store undo --docker-unit d.service --allow-restart --complete --force --state-dir /s"
            .to_owned(),
        format!("node run {node} --registry-mirror m:5000"),
        format!("node run {node} --registry-credentials /c#sha256={}", "0".repeat(64)),
        format!("node run {node} --node-profile v2.6 --node-libnetwork=true --etcd-ca ./ca.pem --etcd-cert /c --etcd-key k")
            .replace("--node-profile v3 ", ""),
        "node check --live".to_owned(),
        "node check --ready --within 3 --docker-socket /s".to_owned(),
        "node undo --force --docker-unit d.service --docker-socket /s --state-dir /s".to_owned(),
        "libnetwork undo".to_owned(),
        "status --docker-unit d.service --docker-socket /s --mesos-agent http://h:5051".to_owned(),
        format!("preflight {etcd} --agents 600 --docker-max-agents 700"),
        "preflight --etcd-discovery-srv etcd.mesos --network-name calico --mesos-platform mesos --cni-plugins-dir /p \
         --cni-config-dir /c --docker-cluster-store etcd://a:1"
            .to_owned(),
        format!(
            "libnetwork run {proxied} --libnetwork-image i --libnetwork-cpus 0.1 --libnetwork-mem 64 --node-name h \
             --node-profile v3 --docker-socket /s --registry-mirror m:5000"
        ),
        "docker-network apply --network-name calico --network-pool-cidr 192.168.0.0/16 --docker-socket /s"
            .to_owned(),
        "docker-network check --network-name calico --network-pool-cidr 192.168.0.0/16".to_owned(),
        "docker-network undo --network-name calico --docker-socket /s".to_owned(),
        "libnetwork check --live --docker-socket /s".to_owned(),
        "libnetwork undo --docker-socket /s".to_owned(),
        format!(
            "prefetch --artifact {} --artifact {} --image i --image j:1 --docker-socket /s --registry-mirror m:5000",
            artifact("etcd"),
            artifact("calico")
        ),
        "prefetch".to_owned(),
        format!("etcd-proxy run {proxied} --artifacts-etcd {}", artifact("etcd")),
        format!("etcd-proxy check {proxied}"),
        format!(
            "etcd-proxy run --etcd-discovery-srv etcd.mesos --etcd-proxy v2-proxy --etcd-peer-urls http://a:1,http://b:1 \
             --artifacts-etcd {}",
            artifact("etcd")
        ),
        format!("cluster-init apply {network} {etcd} --node-profile v2.6 --artifacts-calicoctl {}", artifact("c")),
        format!(
            "cluster-init apply {network} {etcd} --network-encapsulation none --network-nat-outgoing false \
             --artifacts-calicoctl {}",
            artifact("calicoctl")
        ),
        format!("node-ip {etcd}"),
    ] {
        let parsed = Cli::try_parse_from(
            ["calico-installer"].into_iter().chain(line.split(' ').filter(|it| !it.is_empty())),
        );
        assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
    }
}

#[test]
fn nat_can_be_a_flag_or_have_a_value() {
    let artifact = format!("c#sha256={}", "0".repeat(64));
    for (given, expected) in
        [(&[][..], true), (&["--network-nat-outgoing"], true), (&["--network-nat-outgoing=false"], false)]
    {
        let fixed =
            ["calico-installer", "cluster-init", "apply", "--network-name", "calico", "--network-pool-cidr"];
        let more = ["10.0.0.0/8", "--etcd-endpoints", "http://a:1", "--artifacts-calicoctl", &artifact];
        let cli = Cli::try_parse_from(fixed.iter().chain(&more).chain(given)).unwrap();
        let Command::ClusterInit(ClusterInitCommand::Apply(options)) = cli.command else {
            panic!("another command")
        };
        assert_eq!(options.network_nat_outgoing, expected);
    }
}
