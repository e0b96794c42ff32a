//! Docker before and after those that have a cluster store: containers get no addresses there, and tasks do.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::fs;

mod support;
use support::cni::Rig;
use support::docker::{self, V1_9, V23, Version};
use support::systemd::{Service, Systemd};
use support::{expect, installer};

const OF_EACH: [(Version, &str, &str); 2] = [
    (
        V1_9,
        "takes a cluster store only on its command line: 1.10 or later is needed",
        "has no cluster store yet (it came with 1.10)",
    ),
    (V23, "has no cluster store any more: 20.10 was the last that has", "it went with 23.0"),
];

#[test]
fn a_docker_without_cluster_stores_is_skipped_untouched_and_tasks_get_the_network_all_the_same() {
    for (version, refusal, warning) in OF_EACH {
        let rig = Rig::new();
        let socket = rig.path("docker.sock");
        docker::serve(&socket, version, |_| None);
        let exec = ["/usr/bin/dockerd", "-H", "fd://"].map(ToOwned::to_owned).into();
        let service = Service { exec, ..Service::default() };
        let systemd = Systemd::start(rig.root.path(), "docker.service", service, Box::new(|| ()));
        let daemon_json = rig.path("daemon.json");
        fs::write(&daemon_json, "{}").unwrap();
        for verb in ["check", "apply"] {
            let mut store = installer();
            store.args(["docker-cluster-store", verb, "--node-ip", "127.0.0.1", "--docker-socket"]);
            store.arg(&socket).arg("--docker-daemon-json").arg(&daemon_json);
            store.args(["--etcd-endpoints", "http://127.0.0.1:1", "--allow-restart", "--state-dir"]);
            store.arg(rig.path("state")).env("DBUS_SYSTEM_BUS_ADDRESS", &systemd.address);
            expect(&store.output().unwrap(), 80, &[version.docker, refusal]);
        }
        assert_eq!(fs::read(&daemon_json).unwrap(), b"{}");
        assert!(!rig.path("state").exists() && systemd.state.lock().unwrap().asked.is_empty());

        let mut preflight = installer();
        preflight.args(["preflight", "--docker-socket"]).arg(&socket).args(["--mesos-agent", &rig.agent]);
        let said = support::text(&preflight.output().unwrap());
        let line = said.lines().find(|line| line.contains(" docker: ")).unwrap();
        assert!(
            line.starts_with("warning") && line.contains(warning) && line.contains("tasks can"),
            "{line}"
        );

        expect(&rig.apply("one"), 0, &["installed and verified"]);
    }
}
