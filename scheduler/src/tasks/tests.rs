mod targets;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use clap::Parser as _;
use mesos_v1 as mesos;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::core::{Goal, TaskId};
use crate::environment::environment;

fn config(changes: &[(&str, &str)]) -> Config {
    let installer = format!("http://10.0.0.9:8080/installer-0.5.0#sha256={}", "ab".repeat(32));
    let mut env = environment(&[("CALICO_ARTIFACTS_INSTALLER", &installer)]);
    env.extend(changes.iter().map(|(name, value)| (format!("CALICO_{name}"), (*value).to_owned())));
    Config::from_env(&env).unwrap()
}

fn task_info(config: &Config, task_type: TaskType) -> mesos::TaskInfo {
    launched(config, task_type, false)
}

fn launched(config: &Config, task_type: TaskType, may_restart: bool) -> mesos::TaskInfo {
    let tasks = TaskTypes::new(config);
    let place = Place { may_restart, ..place() };
    tasks.task_info(&tasks.specs()[&task_type].target, &TaskId::from("t1"), place).unwrap()
}

fn place() -> Place {
    Place {
        agent: "S1".into(),
        address: "10.0.0.11:5051".into(),
        may_restart: false,
        only_looks: false,
        prefetched: None,
        resources: vec![mesos::Resource::default()],
    }
}

/// Nothing but the pool and the profile, and what there was before is taken back.
const UNWANTED: &[(&str, &str)] = &[
    ("CNI_ENABLE", "false"),
    ("NODE_ENABLE", "false"),
    ("DOCKER_ENABLE", "false"),
    ("LIBNETWORK_ENABLE", "false"),
    ("ETCD_PROXY", "direct"),
    ("ROLLOUT_UNDO_DISABLED", "true"),
];

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
    use TaskType::{
        CalicoNode, ClusterInit, Cni, DockerClusterStore, DockerNetwork, EtcdProxy, Libnetwork, Prefetch,
    };
    const OF_ETCD: &[TaskType] = &[ClusterInit, EtcdProxy, DockerClusterStore, Cni, CalicoNode, Libnetwork];
    &[
        ("SERVICE_USER", "calico", &TaskType::ALL),
        ("ETCD_ENDPOINTS", "http://10.0.0.2:2379", OF_ETCD),
        ("ETCD_LISTEN", "127.0.0.1:23790", OF_ETCD.split_at(1).1),
        ("CNI_PLUGINS_DIR", "/opt/cni/bin", &[Cni]),
        ("CNI_CONFIG_DIR", "/etc/cni/net.d", &[Cni]),
        ("CNI_IPV4_POOLS", "10.1.0.0/16, 10.2.0.0/24", &[Cni]),
        ("CNI_LOG_LEVEL", "warning", &[Cni]),
        ("CNI_NODENAME_FILE_OPTIONAL", "true", &[Cni]),
        ("CNI_PORT_MAPPER", "true", &[Cni]),
        ("CNI_LABEL_WRAPPER", "true", &[Cni]),
        ("MESOS_PLATFORM", "mesos", &[Cni]),
        ("MESOS_UNIT", "mesos-agent.service", &[Cni]),
        ("NETWORK_NAME", "other", &[ClusterInit, Cni, DockerNetwork]),
        ("NETWORK_POOL_CIDR", "10.1.0.0/16", &[ClusterInit, DockerNetwork]),
        ("NETWORK_BLOCK_SIZE", "28", &[ClusterInit]),
        ("NETWORK_ENCAPSULATION", "ipip", &[ClusterInit, CalicoNode]),
        ("NETWORK_MTU", "1400", &[Cni]),
        ("NETWORK_NAT_OUTGOING", "false", &[ClusterInit]),
        ("NODE_IMAGE", "calico/node:v3.15.0", &[Prefetch, CalicoNode]),
        ("NODE_BACKEND", "bird", &[CalicoNode]),
        ("NODE_IP", "10.0.0.11", &[DockerClusterStore, CalicoNode]),
        ("NODE_NAME", "n1", &[Cni, CalicoNode, Libnetwork]),
        (
            "DOCKER_SOCKET",
            "/run/docker.sock",
            &[Prefetch, DockerClusterStore, CalicoNode, Libnetwork, DockerNetwork],
        ),
        ("DOCKER_UNIT", "dockerd.service", &[DockerClusterStore]),
        ("DOCKER_CLUSTER_STORE", "zk://10.0.0.1:2181/docker", &[DockerClusterStore]),
        ("DOCKER_CLUSTER_ADVERTISE", "10.0.0.11:2376", &[DockerClusterStore]),
        ("DOCKER_CLUSTER_STORE_OPTS", "discovery.ttl=90,discovery.heartbeat=30", &[DockerClusterStore]),
        ("DOCKER_MAX_AGENTS", "800", &[DockerClusterStore]),
        ("DOCKER_REPLACE_STORE", "true", &[DockerClusterStore]),
        ("LIBNETWORK_IMAGE", "calico/libnetwork-plugin:v1.1.4", &[Prefetch, Libnetwork]),
        ("REGISTRY_MIRROR", "10.0.0.9:5000", &[Prefetch, CalicoNode, Libnetwork]),
        ("REGISTRY_CREDENTIALS", "/root/.docker/config.json", &[Prefetch, CalicoNode, Libnetwork]),
        ("ETCD_PEER_URLS", "http://10.0.0.1:2380", &[EtcdProxy]),
        ("CLUSTER_INIT_CPUS", "0.3", &[ClusterInit]),
        ("PREFETCH_MEM", "128", &[Prefetch]),
        ("ETCD_PROXY_MEM", "128", &[EtcdProxy]),
        ("CNI_CPUS", "0.3", &[Cni]),
        ("CALICO_NODE_MEM", "512.5", &[CalicoNode]),
        ("DOCKER_CLUSTER_STORE_CPUS", "0.3", &[DockerClusterStore]),
        ("LIBNETWORK_MEM", "256", &[Libnetwork]),
        ("DOCKER_NETWORK_MEM", "128", &[DockerNetwork]),
    ]
};

#[test]
fn every_command_is_one_that_the_installer_takes() {
    let defaults: &[(&str, &str)] = &[];
    let changed: Vec<(&str, &str)> = CHANGES.iter().map(|(name, value, _)| (*name, *value)).collect();
    for changes in
        [defaults, &changed, &[("ETCD_PROXY", "direct")], UNWANTED, V2, &tls("http://10.0.0.9/ca.pem"), SRV]
    {
        let tasks = TaskTypes::new(&config(changes));
        for spec in tasks.specs().into_values().chain(tasks.undo().into_values()) {
            let place = Place { may_restart: spec.restart.is_some(), ..place() };
            let info = tasks.task_info(&spec.target, &TaskId::from("t1"), place).unwrap();
            for command in commands(&info) {
                let args = installer_args(&command);
                if let Err(error) = calico_installer::cli::Cli::try_parse_from(&args) {
                    panic!("{args:?}: {error}");
                }
            }
        }
    }
}

/// Calico v2.6 behind a proxy of the v2 API.
const V2: &[(&str, &str)] =
    &[("NODE_PROFILE", "v2.6"), ("ETCD_PROXY", "v2-proxy"), ("ETCD_PEER_URLS", "http://10.0.0.1:2380")];
/// Members that are found by name.
const SRV: &[(&str, &str)] =
    &[("ETCD_ENDPOINTS", ""), ("ETCD_DISCOVERY_SRV", "etcd.mesos"), ("ETCD_PROXY", "gateway")];

/// TLS with a file of each kind: fetched, of the host, and a secret.
fn tls(ca: &str) -> Vec<(&'static str, &'static str)> {
    let ca = format!("{ca}#sha256={}", "cd".repeat(32));
    vec![
        ("ETCD_ENDPOINTS", "https://10.0.0.1:2379"),
        ("ETCD_CA", Box::leak(ca.into_boxed_str())),
        ("ETCD_CERT", "/etc/etcd/cert.pem"),
        ("ETCD_KEY", "secret:calico/etcd-key"),
        ("REGISTRY_CREDENTIALS", "secret:calico/registry"),
    ]
}

#[test]
fn files_of_tls_and_credentials_are_brought_by_reference_and_no_cache_keeps_them() {
    let config = config(&tls("http://10.0.0.9/ca.pem"));
    let of_etcd = [
        TaskType::ClusterInit,
        TaskType::EtcdProxy,
        TaskType::DockerClusterStore,
        TaskType::Cni,
        TaskType::CalicoNode,
        TaskType::Libnetwork,
    ];
    let of_registry = [TaskType::Prefetch, TaskType::CalicoNode, TaskType::Libnetwork];
    for task_type in TaskType::ALL {
        let info = task_info(&config, task_type);
        let (etcd, registry) = (of_etcd.contains(&task_type), of_registry.contains(&task_type));
        let args = installer_args(info.command.as_ref().unwrap());
        let has = |flag: &str| args.iter().any(|arg| arg == flag);
        let ca = format!("--etcd-ca=./etcd-ca.pem#sha256={}", "cd".repeat(32));
        for flag in [&*ca, "--etcd-cert=/etc/etcd/cert.pem", "--etcd-key=./etcd-key.pem"] {
            assert_eq!(has(flag), etcd, "{task_type}: {flag}");
        }
        assert_eq!(has("--registry-credentials=./registry-credentials"), registry, "{task_type}");
        let uris = info.command.as_ref().unwrap().uris.clone();
        let fetched = uris.iter().find(|uri| uri.output_file() == "etcd-ca.pem");
        assert_eq!(
            fetched.map(|uri| (uri.value.as_str(), uri.cache(), uri.executable())),
            etcd.then_some(("http://10.0.0.9/ca.pem", false, false))
        );
        let volumes = info.container.iter().flat_map(|container| &container.volumes);
        let secrets: Vec<(&str, &str)> = volumes
            .map(|volume| {
                let secret = volume.source.as_ref().unwrap().secret.as_ref().unwrap();
                assert!(secret.value.is_none(), "its content is in the task");
                (volume.container_path.as_str(), secret.reference.as_ref().unwrap().name.as_str())
            })
            .collect();
        let expected = [
            (etcd, ("etcd-key.pem", "calico/etcd-key")),
            (registry, ("registry-credentials", "calico/registry")),
        ];
        let expected: Vec<_> = expected.into_iter().filter(|(is, _)| *is).map(|(_, secret)| secret).collect();
        assert_eq!(secrets, expected, "{task_type}");
        assert_eq!(info.container.is_some(), !secrets.is_empty(), "{task_type}");
    }
    // Another content is another target, and nobody's but of those who use it.
    let mut changes = tls("http://10.0.0.9/ca.pem");
    let other = format!("/etc/etcd/cert.pem#sha256={}", "ef".repeat(32));
    changes[2].1 = Box::leak(other.into_boxed_str());
    let (before, after) = (targets(&config), targets(&self::config(&changes)));
    for task_type in TaskType::ALL {
        assert_eq!(before[&task_type] != after[&task_type], of_etcd.contains(&task_type), "{task_type}");
    }
}

#[test]
fn calico_v2_has_docker_s_plugin_within_calico_node() {
    let tasks = TaskTypes::new(&config(V2));
    let specs = tasks.specs();
    assert!(!specs.contains_key(&TaskType::Libnetwork));
    assert_eq!(specs[&TaskType::DockerNetwork].beside, Some(TaskType::CalicoNode));
    let node = &all_args(V2, TaskType::CalicoNode)[0];
    for flag in [
        "--node-profile=v2.6",
        "--network-encapsulation=ipip",
        "--node-libnetwork=true",
        "--etcd-proxy=v2-proxy",
    ] {
        assert!(node.contains(flag), "{flag}: {node}");
    }
    let proxy = all_args(V2, TaskType::EtcdProxy);
    assert!(proxy[0].starts_with("etcd-proxy run") && proxy[1].starts_with("etcd-proxy check"));
    assert!(proxy.iter().all(|args| args.contains("--etcd-peer-urls=http://10.0.0.1:2380")), "{proxy:?}");
    assert!(all_args(V2, TaskType::ClusterInit)[0].contains("--node-profile=v2.6"));
    let srv = all_args(SRV, TaskType::Cni)[0].clone();
    assert!(srv.contains("--etcd-discovery-srv=etcd.mesos") && !srv.contains("--etcd-endpoints"), "{srv}");
}

#[test]
fn a_look_is_the_install_with_check_and_fetches_what_it_needs() {
    let tasks = TaskTypes::new(&config(&[]));
    let info = |target: &TargetHash, only_looks: bool| {
        tasks.task_info(target, &TaskId::from("t1"), Place { only_looks, ..place() })
    };
    for (task_type, spec) in tasks.specs() {
        let (install, look) = (info(&spec.target, false).unwrap(), info(&spec.target, true));
        let can = spec.goal == Goal::Finished && task_type != TaskType::Prefetch;
        assert_eq!(look.is_some(), can, "{task_type}");
        let Some(look) = look else { continue };
        assert_eq!((look.name, &look.labels), (format!("{task_type}-check"), &install.labels));
        let (install, look) = (install.command.unwrap(), look.command.unwrap());
        let args = installer_args(&look);
        let mut expected = installer_args(&install);
        assert_eq!(expected[2], "apply");
        expected[2] = "check".to_owned();
        assert_eq!(args, expected);
        if let Err(error) = calico_installer::cli::Cli::try_parse_from(&args) {
            panic!("{args:?}: {error}");
        }
        let fetches = if task_type == TaskType::Cni { &install.uris[..1] } else { &install.uris };
        assert_eq!(look.uris, fetches, "{task_type}");
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
    let config = config(UNWANTED);
    assert_eq!(TaskTypes::new(&config).specs().into_keys().collect::<Vec<_>>(), [TaskType::ClusterInit]);
}

#[test]
fn what_is_disabled_is_taken_back_where_the_operator_wants_that() {
    let undone = |changes: &[(&str, &str)]| {
        let tasks = TaskTypes::new(&config(changes));
        let args = |spec: &Spec| {
            let info = tasks.task_info(&spec.target, &TaskId::from("t1"), place()).unwrap();
            assert_eq!(spec.goal, Goal::Finished);
            assert_eq!(tasks.definitions()[&spec.target].goal, Goal::Finished);
            installer_args(info.command.as_ref().unwrap())[1..].join(" ")
        };
        tasks.undo().iter().map(|(t, spec)| (*t, args(spec))).collect::<Vec<_>>()
    };
    let docker = "--docker-unit=docker.service --docker-socket=/var/run/docker.sock";
    let expected = [
        (TaskType::DockerClusterStore, format!("docker-cluster-store undo --complete {docker}")),
        (TaskType::Cni, "cni undo --complete --network-name=calico".to_owned()),
        (TaskType::CalicoNode, format!("node undo {docker}")),
        (TaskType::Libnetwork, format!("libnetwork undo {docker}")),
    ];
    assert_eq!(undone(UNWANTED), expected);
    let (last, rest) = UNWANTED.split_last().unwrap();
    assert_eq!(undone(rest), [], "nobody wants it");
    assert_eq!(undone(&[("CNI_ENABLE", "false"), *last]), expected[1..2], "the others are wanted");

    // Docker keeps the store until it is restarted: that is asked for with 79.
    let mut changes = UNWANTED.to_vec();
    changes.push(("DOCKER_ALLOW_RESTART", "true"));
    let undo = TaskTypes::new(&config(&changes)).undo();
    let restarts =
        undo.iter().filter_map(|(t, spec)| Some((*t, spec.restart?.option, spec.restart?.allowed)));
    let expected = [
        (TaskType::DockerClusterStore, "docker.allow-restart", true),
        (TaskType::Cni, "mesos.allow-restart", false),
    ];
    assert_eq!(restarts.collect::<Vec<_>>(), expected);
}

#[test]
fn what_services_and_installs_are_made_of_is_fetched_before_once() {
    let args = all_args(&[("REGISTRY_MIRROR", "10.0.0.9:5000")], TaskType::Prefetch);
    let artifacts = ["etcd", "calico", "calico-ipam"]
        .map(|name| format!("--artifact=./{name}#sha256={}", "ab".repeat(32)));
    let rest = "--image=calico/node:v3.14.0 --image=calico/libnetwork-plugin:v1.1.3 \
                --docker-socket=/var/run/docker.sock --registry-mirror=10.0.0.9:5000";
    assert_eq!(args, [format!("prefetch {} {rest}", artifacts.join(" "))]);
    let specs = TaskTypes::new(&config(&[])).specs();
    assert_eq!(specs[&TaskType::Prefetch].goal, Goal::Finished);

    // Only of what is wanted; nothing where no service is.
    let without = [("NODE_ENABLE", "false"), ("LIBNETWORK_ENABLE", "false"), ("CNI_ENABLE", "false")];
    let args = all_args(&without, TaskType::Prefetch);
    let socket = "--docker-socket=/var/run/docker.sock";
    assert_eq!(args, [format!("prefetch {} {socket}", artifacts[0])]);
    let none = TaskTypes::new(&config(&[&without[..], &[("ETCD_PROXY", "direct")]].concat()));
    assert!(!none.specs().contains_key(&TaskType::Prefetch));
}

#[test]
fn what_was_fetched_before_comes_from_the_cache_and_nothing_else_does() {
    let changes = [("ARTIFACTS_CNI_IPAM", "/opt/calico-ipam#sha256=".to_owned() + &"cd".repeat(32))];
    let changes = changes.each_ref().map(|(name, value)| (*name, value.as_str()));
    let tasks = TaskTypes::new(&config(&changes));
    let target = |task_type| tasks.specs()[&task_type].target.clone();
    let fetched = |tasks: &TaskTypes, task_type, prefetched: Option<TargetHash>| {
        let place = Place { prefetched, ..place() };
        let info = tasks.task_info(&target(task_type), &TaskId::from("t1"), place).unwrap();
        let uris = info.command.unwrap().uris.into_iter();
        uris.map(|uri| (uri.output_file().to_owned(), uri.value.clone(), uri.cache())).collect::<Vec<_>>()
    };
    let plain = |name: &str, file: &str| (name.to_owned(), format!("http://10.0.0.9:8080/{file}"), false);
    let cached = |name: &str, file: &str| {
        (name.to_owned(), format!("http://10.0.0.9:8080/{file}#sha256={}", "ab".repeat(32)), true)
    };
    let installer = ("calico-installer", "installer-0.5.0");
    // A path is no download.
    let ipam = ("calico-ipam".to_owned(), "/opt/calico-ipam".to_owned(), false);
    let before = [plain(installer.0, installer.1), plain("calico", "calico"), ipam.clone()];
    let after = [cached(installer.0, installer.1), cached("calico", "calico"), ipam.clone()];
    assert_eq!(fetched(&tasks, TaskType::Cni, None), before);
    assert_eq!(fetched(&tasks, TaskType::Cni, Some("unknown".into())), before);
    assert_eq!(fetched(&tasks, TaskType::Cni, Some(target(TaskType::Prefetch))), after);
    // It fills the cache itself.
    let own =
        [cached(installer.0, installer.1), cached("etcd", "etcd"), cached("calico", "calico"), ipam.clone()];
    assert_eq!(fetched(&tasks, TaskType::Prefetch, None), own);

    // What an earlier configuration has fetched is of use as far as it is the same.
    let other = format!("http://10.0.0.9:8080/calico#sha256={}", "ef".repeat(32));
    let earlier = TaskTypes::new(&config(&[("ARTIFACTS_CNI", &other)]));
    let (all, _) = tasks.learn(&earlier.definitions());
    let prefetched = earlier.specs()[&TaskType::Prefetch].target.clone();
    let some = [cached(installer.0, installer.1), plain("calico", "calico"), ipam];
    assert_eq!(fetched(&all, TaskType::Cni, Some(prefetched)), some);
}

/// A task's arguments after `calico-installer`, and those of its probes.
fn all_args(changes: &[(&str, &str)], task_type: TaskType) -> Vec<String> {
    let info = task_info(&config(changes), task_type);
    commands(&info).iter().map(|command| installer_args(command)[1..].join(" ")).collect()
}

#[test]
fn the_steps_of_docker_are_launched_with_what_they_need_and_no_more() {
    let etcd = "--etcd-endpoints=http://10.0.0.1:2379 --etcd-proxy=gateway --etcd-listen=127.0.0.1:2379";
    let socket = "--docker-socket=/var/run/docker.sock";
    let store = format!(
        "docker-cluster-store apply {etcd} --docker-unit=docker.service {socket} --docker-max-agents=500"
    );
    assert_eq!(all_args(&[], TaskType::DockerClusterStore), std::slice::from_ref(&store));
    let changes = [
        ("DOCKER_CLUSTER_STORE", "etcd://10.0.0.7:2379"),
        ("DOCKER_CLUSTER_ADVERTISE", "10.0.0.11:2377"),
        ("DOCKER_CLUSTER_STORE_OPTS", "a=1,b=2"),
        ("DOCKER_REPLACE_STORE", "true"),
        ("NODE_IP", "10.0.0.11"),
    ];
    let more = "--docker-cluster-store=etcd://10.0.0.7:2379 --docker-cluster-advertise=10.0.0.11:2377 \
                --docker-cluster-store-opts=a=1,b=2 --node-ip=10.0.0.11 --docker-replace-store";
    assert_eq!(all_args(&changes, TaskType::DockerClusterStore), [format!("{store} {more}")]);

    let run = format!(
        "libnetwork run {etcd} --libnetwork-image=calico/libnetwork-plugin:v1.1.3 --libnetwork-cpus=0.1 \
         --libnetwork-mem=128 {socket}"
    );
    let probes = ["--live", "--ready"].map(|goal| format!("libnetwork check {goal} --within=3 {socket}"));
    assert_eq!(all_args(&[], TaskType::Libnetwork), [vec![run], probes.to_vec()].concat());

    let network =
        format!("docker-network apply --network-name=calico --network-pool-cidr=192.168.0.0/16 {socket}");
    assert_eq!(all_args(&[], TaskType::DockerNetwork), [network]);
}

#[test]
fn cni_is_launched_with_what_is_asked_for_and_no_more() {
    let etcd = "--etcd-endpoints=http://10.0.0.1:2379 --etcd-proxy=gateway --etcd-listen=127.0.0.1:2379";
    let artifacts = [("cni", "calico"), ("cni-ipam", "calico-ipam")]
        .map(|(option, file)| format!("--artifacts-{option}=./{file}#sha256={}", "ab".repeat(32)));
    let artifacts = artifacts.join(" ");
    let cni = format!("cni apply --network-name=calico {etcd}");
    assert_eq!(all_args(&[], TaskType::Cni), [format!("{cni} {artifacts}")]);
    let changes = [
        ("CNI_IPV4_POOLS", "10.1.0.0/16,10.2.0.0/24"),
        ("CNI_LOG_LEVEL", "debug"),
        ("CNI_NODENAME_FILE_OPTIONAL", "true"),
        ("CNI_PORT_MAPPER", "true"),
        ("CNI_LABEL_WRAPPER", "true"),
        ("MESOS_PLATFORM", "dcos"),
        ("MESOS_UNIT", "a.service"),
    ];
    let more = "--cni-ipv4-pools=10.1.0.0/16,10.2.0.0/24 --cni-log-level=debug --mesos-platform=dcos \
                --mesos-unit=a.service --cni-nodename-file-optional --cni-port-mapper --cni-label-wrapper";
    assert_eq!(all_args(&changes, TaskType::Cni), [format!("{cni} {more} {artifacts}")]);
}

#[test]
fn what_docker_needs_of_others_is_in_its_specs() {
    let specs = TaskTypes::new(&config(&[("DOCKER_ALLOW_RESTART", "true")])).specs();
    assert_eq!(specs[&TaskType::Libnetwork].requires, [TaskType::DockerClusterStore]);
    assert_eq!(specs[&TaskType::DockerNetwork].beside, Some(TaskType::Libnetwork));
    let allowed =
        |task_type: TaskType| specs[&task_type].restart.map(|restart| (restart.option, restart.allowed));
    assert_eq!(allowed(TaskType::DockerClusterStore), Some(("docker.allow-restart", true)));
    assert_eq!(allowed(TaskType::Cni), Some(("mesos.allow-restart", false)));
    let restarting = specs.values().filter(|spec| spec.restart.is_some());
    assert_eq!(restarting.count(), 2);
    let most = specs[&TaskType::DockerClusterStore].most_agents.unwrap();
    assert_eq!((most.option, most.number), ("docker.max-agents", 500));
}

#[test]
fn the_permission_to_restart_is_the_last_argument_and_no_part_of_the_target() {
    let config = config(&[("DOCKER_ALLOW_RESTART", "true")]);
    assert_eq!(targets(&config), targets(&self::config(&[])));
    for task_type in [TaskType::DockerClusterStore, TaskType::Cni] {
        let (without, with) = (launched(&config, task_type, false), launched(&config, task_type, true));
        let mut args = without.command.unwrap().arguments;
        args.push("--allow-restart".to_owned());
        assert_eq!(with.command.unwrap().arguments, args);
        assert_eq!(with.labels, without.labels);
    }
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
    for task_type in TaskType::ALL {
        let info = task_info(&config(&[("SERVICE_USER", "calico")]), task_type);
        assert_eq!(info.command.unwrap().user(), "calico", "{task_type}");
    }
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
    let check = task_info(&config(&[]), TaskType::EtcdProxy).check.unwrap().command.unwrap().command;
    let early = std::thread::spawn({
        let dir = dir.path().to_owned();
        move || run(&check, &dir)
    });

    let artifact =
        format!("http://10.0.0.9/calico-installer#sha256={}", hex::encode(Sha256::digest(program)));
    let config = config(&[("ARTIFACTS_INSTALLER", &artifact), ("NETWORK_NAME", "a-b")]);
    let right = run(&task_info(&config, TaskType::ClusterInit).command.unwrap(), dir.path());
    let said = String::from_utf8_lossy(&right.stdout);
    assert!(said.starts_with("[cluster-init][apply][--network-name=a-b]"), "{said} {right:?}");
    // A probe that came too early has waited for that.
    let said = String::from_utf8_lossy(&early.join().unwrap().stdout).into_owned();
    assert!(said.starts_with("[etcd-proxy][check]"), "{said}");
}
