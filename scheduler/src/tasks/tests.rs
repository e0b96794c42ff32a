use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use clap::Parser as _;
use mesos_v1 as mesos;

use super::*;
use crate::core::TaskId;
use crate::environment::environment;

fn config(changes: &[(&str, &str)]) -> Config {
    let installer = format!("http://10.0.0.9:8080/installer-0.5.0#sha256={}", "ab".repeat(32));
    let mut env = environment(&[("CALICO_ARTIFACTS_INSTALLER", &installer)]);
    env.extend(changes.iter().map(|(name, value)| (format!("CALICO_{name}"), (*value).to_owned())));
    Config::from_env(&env).unwrap()
}

fn task_info(config: &Config, task_type: TaskType) -> mesos::TaskInfo {
    let place = Place {
        agent: "S1".into(),
        address: "10.0.0.11:5051".into(),
        may_restart: false,
        resources: vec![mesos::Resource::default()],
    };
    TaskTypes::new(config).task_info(task_type, &TaskId::from("t1"), place).unwrap()
}

fn targets(config: &Config) -> BTreeMap<TaskType, TargetHash> {
    TaskTypes::new(config).specs().into_iter().map(|(t, spec)| (t, spec.target)).collect()
}

/// What the shell hands over to the installer.
fn installer_args(command: &mesos::CommandInfo) -> Vec<String> {
    assert_eq!(command.value(), "/bin/sh");
    assert_eq!(command.arguments[..2], ["sh", "-c"]);
    std::iter::once("calico-installer".to_owned()).chain(command.arguments[4..].iter().cloned()).collect()
}

fn commands(info: &mesos::TaskInfo) -> Vec<mesos::CommandInfo> {
    let health = info.health_check.as_ref().and_then(|check| check.command.clone());
    let check = info.check.as_ref().and_then(|check| check.command.clone()).map(|check| check.command);
    info.command.clone().into_iter().chain(health).chain(check).collect()
}

/// All options that reach a task, with a value that is not the default.
const CHANGES: &[(&str, &str, &[TaskType])] = {
    use TaskType::{CalicoNode, ClusterInit, Cni, EtcdProxy};
    &[
        ("SERVICE_USER", "calico", &[ClusterInit, EtcdProxy, Cni, CalicoNode]),
        ("ETCD_ENDPOINTS", "http://10.0.0.2:2379", &[ClusterInit, EtcdProxy, Cni, CalicoNode]),
        ("ETCD_LISTEN", "127.0.0.1:23790", &[EtcdProxy, Cni, CalicoNode]),
        ("CNI_PLUGINS_DIR", "/opt/cni/bin", &[Cni]),
        ("CNI_CONFIG_DIR", "/etc/cni/net.d", &[Cni]),
        ("NETWORK_NAME", "other", &[ClusterInit, Cni]),
        ("NETWORK_POOL_CIDR", "10.1.0.0/16", &[ClusterInit]),
        ("NETWORK_BLOCK_SIZE", "28", &[ClusterInit]),
        ("NETWORK_ENCAPSULATION", "ipip", &[ClusterInit, CalicoNode]),
        ("NETWORK_MTU", "1400", &[Cni]),
        ("NETWORK_NAT_OUTGOING", "false", &[ClusterInit]),
        ("NODE_IMAGE", "calico/node:v3.15.0", &[CalicoNode]),
        ("NODE_BACKEND", "bird", &[CalicoNode]),
        ("NODE_IP", "10.0.0.11", &[CalicoNode]),
        ("NODE_NAME", "n1", &[Cni, CalicoNode]),
        ("DOCKER_SOCKET", "/run/docker.sock", &[CalicoNode]),
        ("REGISTRY_MIRROR", "10.0.0.9:5000", &[CalicoNode]),
        ("CLUSTER_INIT_CPUS", "0.3", &[ClusterInit]),
        ("ETCD_PROXY_MEM", "128", &[EtcdProxy]),
        ("CNI_CPUS", "0.3", &[Cni]),
        ("CALICO_NODE_MEM", "512.5", &[CalicoNode]),
    ]
};

#[test]
fn every_command_is_one_that_the_installer_takes() {
    let defaults: &[(&str, &str)] = &[];
    let changed: Vec<(&str, &str)> = CHANGES.iter().map(|(name, value, _)| (*name, *value)).collect();
    for changes in [defaults, &changed, &[("ETCD_PROXY", "direct")]] {
        let config = config(changes);
        for task_type in TaskTypes::new(&config).specs().into_keys() {
            for command in commands(&task_info(&config, task_type)) {
                let args = installer_args(&command);
                if let Err(error) = calico_installer::cli::Cli::try_parse_from(&args) {
                    panic!("{args:?}: {error}");
                }
            }
        }
    }
}

#[test]
fn a_changed_option_changes_the_targets_that_it_is_in_and_no_others() {
    let before = targets(&config(&[]));
    for (name, value, concerned) in CHANGES {
        let after = targets(&config(&[(name, value)]));
        let changed: Vec<TaskType> =
            TaskType::ALL.into_iter().filter(|t| before.get(t) != after.get(t)).collect();
        assert_eq!(changed, *concerned, "{name}");
    }
    // Who we are and where we listen is nobody's target.
    assert_eq!(before, targets(&config(&[("SERVICE_NAME", "other"), ("MESOS_MASTER", "10.0.0.3:5050")])));
}

#[test]
fn what_is_disabled_is_no_task_type() {
    let config = config(&[("CNI_ENABLE", "false"), ("NODE_ENABLE", "false"), ("ETCD_PROXY", "direct")]);
    assert_eq!(TaskTypes::new(&config).specs().into_keys().collect::<Vec<_>>(), [TaskType::ClusterInit]);
}

#[test]
fn a_task_fetches_its_artifacts_unpacked_and_runs_as_the_operator_says() {
    let info = task_info(&config(&[]), TaskType::Cni);
    let command = info.command.unwrap();
    let uris: Vec<(&str, Option<&str>, bool)> = command
        .uris
        .iter()
        .map(|uri| (uri.value.as_str(), uri.output_file.as_deref(), uri.extract()))
        .collect();
    assert_eq!(
        uris,
        [
            ("http://10.0.0.9:8080/installer-0.5.0", Some("calico-installer"), false),
            ("http://10.0.0.9:8080/calico", Some("calico"), false),
            ("http://10.0.0.9:8080/calico-ipam", Some("calico-ipam"), false),
        ]
    );
    assert_eq!(command.user(), "root");
    let variables = command.environment.unwrap().variables;
    assert_eq!(variables[0].value(), "http://10.0.0.11:5051");
}

/// Runs a task's command in `dir`, as the executor does.
fn run(command: &mesos::CommandInfo, dir: &std::path::Path) -> Output {
    Command::new(command.value()).args(&command.arguments[1..]).current_dir(dir).output().unwrap()
}

#[test]
fn the_script_runs_only_the_installer_that_is_configured() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("calico-installer");
    let program = b"#!/bin/sh\nprintf '[%s]' \"$@\"\n";
    std::fs::write(&path, program).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();

    let wrong = run(&task_info(&config(&[]), TaskType::ClusterInit).command.unwrap(), dir.path());
    assert_eq!(wrong.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("not the artifact that is configured"));
    assert!(wrong.stdout.is_empty(), "it was run");

    let artifact =
        format!("http://10.0.0.9/calico-installer#sha256={}", hex::encode(Sha256::digest(program)));
    let config = config(&[("ARTIFACTS_INSTALLER", &artifact), ("NETWORK_NAME", "a-b")]);
    let right = run(&task_info(&config, TaskType::ClusterInit).command.unwrap(), dir.path());
    let said = String::from_utf8_lossy(&right.stdout);
    assert!(said.starts_with("[cluster-init][apply][--network-name=a-b]"), "{said} {right:?}");
}
