//! The package against the scheduler's real parser: one set of options, under the same names and with the same defaults.

use std::collections::{BTreeMap, BTreeSet};

use calico_scheduler::config::{Config, Faults, Masters, OPTIONS, Server, StateLocation};
use calico_universe::{OptionSchema, environment};
use serde_json::{Value, json};

use crate::{package, uri};

/// Options that only one side has: Marathon's own, what Marathon's port gives, and what `resource.json` gives.
const ONLY_IN_THE_PACKAGE: [&str; 2] = ["service.cpus", "service.mem"];
const ONLY_IN_THE_SCHEDULER: [&str; 6] = [
    "artifacts.calicoctl",
    "artifacts.cni",
    "artifacts.cni-ipam",
    "artifacts.etcd",
    "artifacts.installer",
    "service.api-listen",
];

/// What the scheduler reads from the environment that Marathon starts it with.
fn config(options: &Value) -> Result<Config, Faults> {
    let mut env = environment(&package().render(options).unwrap());
    env.insert("PORT0".to_owned(), "10001".to_owned());
    env.insert("MARATHON_APP_ID".to_owned(), "/calico".to_owned());
    Config::from_env(&env)
}

#[test]
fn the_package_and_the_scheduler_have_the_same_options() {
    let package: BTreeSet<_> = package().options().unwrap().iter().map(ToString::to_string).collect();
    let scheduler: BTreeSet<_> = OPTIONS.iter().map(|option| option.name.to_owned()).collect();
    assert_eq!(package.difference(&scheduler).collect::<Vec<_>>(), ONLY_IN_THE_PACKAGE);
    assert_eq!(scheduler.difference(&package).collect::<Vec<_>>(), ONLY_IN_THE_SCHEDULER);
}

#[test]
fn they_have_the_same_names_of_variables_and_the_same_defaults() {
    let schemas = package().options().unwrap();
    let schemas: BTreeMap<_, &OptionSchema> =
        schemas.iter().map(|option| (option.to_string(), option)).collect();
    for option in OPTIONS.iter().filter(|option| !ONLY_IN_THE_SCHEDULER.contains(&option.name)) {
        let schema = schemas[option.name];
        assert_eq!(option.env(), schema.variable());
        assert_eq!(option.default.unwrap_or_default(), schema.default_text(), "{}", option.name);
    }
}

#[test]
fn the_scheduler_starts_with_the_defaults_and_the_etcd_endpoints() {
    let config = config(&json!({"etcd": {"endpoints": "http://10.0.0.1:2379"}})).unwrap();
    assert_eq!(config.service.name, "calico");
    assert_eq!(config.service.api_listen.port(), 10_001);
    let leader = Server { tls: false, authority: "leader.mesos:5050".to_owned() };
    assert_eq!(config.mesos.masters, Masters::Named(vec![leader]));
    assert_eq!(config.target.etcd.endpoints, ["http://10.0.0.1:2379"]);
    // Marathon may start it on any agent: its state must be found from there.
    let StateLocation::Etcd(state) = config.service.state else { panic!("it is in a file of one agent") };
    assert_eq!(state.to_string(), "etcd://10.0.0.1:2379/calico-dcos");
    assert_eq!(config.target.network.mtu, None);
    assert_eq!(config.target.node.unwrap().image, "registry:5000/calico/node:v3.14.0");
    let plugin = config.target.libnetwork.unwrap().image;
    assert_eq!(plugin.as_deref(), Some("registry:5000/calico/libnetwork-plugin:v1.1.3"));
    let restarts = config.target.restarts;
    assert!(!restarts.docker && !restarts.mesos, "something is restarted without permission");
    assert_eq!(config.rollout.max_concurrent_restarts.to_string(), "1");
    let installer = config.target.installer;
    assert_eq!(format!("{}#sha256={}", installer.uri, installer.sha256), uri("calico-installer"));
}

#[test]
fn without_etcd_endpoints_the_scheduler_says_so_and_nothing_else() {
    let faults = config(&json!({})).unwrap_err();
    assert_eq!(faults.0.iter().map(|fault| fault.option.as_str()).collect::<Vec<_>>(), ["etcd.endpoints"]);
}

#[test]
fn every_value_that_the_schema_lists_is_one_that_the_scheduler_takes() {
    let schema: Value = serde_json::from_str(&package().config).unwrap();
    for option in package().options().unwrap() {
        let listed = &schema["properties"][&option.group]["properties"][&option.name]["enum"];
        for value in listed.as_array().into_iter().flatten() {
            let mut options = json!({"etcd": {"endpoints": "http://10.0.0.1:2379"}});
            options[&option.group][&option.name] = value.clone();
            if option.to_string() == "node.backend" && value == "none" {
                // It carries nothing else.
                options["network"]["encapsulation"] = value.clone();
            }
            if value == "grpc-proxy" {
                // Docker needs the other API.
                options["docker"] = json!({"enable": false});
                options["libnetwork"] = json!({"enable": false});
            }
            if value == "v2-proxy" {
                options["node"] = json!({"profile": "v2.6"});
                options["etcd"]["peer-urls"] = json!("http://10.0.0.1:2380");
            }
            config(&options).unwrap_or_else(|faults| panic!("{option}={value}: {faults}"));
        }
    }
}

#[test]
fn numbers_and_switches_arrive_as_they_are_meant() {
    let config = config(&json!({
        "etcd": {"endpoints": "http://10.0.0.1:2379,http://10.0.0.2:2379", "proxy": "direct"},
        "network": {"mtu": "1450", "block-size": 28, "nat-outgoing": false},
        "cni": {"enable": false},
        "node": {"image": "mirror/calico/node:v3.14.1"},
        "mesos": {"allow-restart": true},
        "docker": {"allow-restart": true, "max-agents": 700, "replace-store": true, "cluster-store": "etcd://10.0.0.1:2379"},
        "libnetwork": {"image": "mirror/libnetwork-plugin:v1", "cpus": 0.2},
        "docker-cluster-store": {"mem": 128},
        "rollout": {
            "max-concurrent-restarts": "20%",
            "agent-timeout": "5m",
            "stability": "1m",
            "canary-count": 3,
            "max-per-domain": "2",
            "windows": "Mon-Fri 22:00-04:00 Europe/Berlin, Sat+Sun 00:00-24:00",
            "undo-disabled": true,
            "allow-unsafe": "network.name"
        },
        "calico-node": {"cpus": 1, "mem": 512}
    }))
    .unwrap();
    assert_eq!(config.target.etcd.endpoints.len(), 2);
    assert_eq!(config.target.network.mtu, Some(1450));
    assert_eq!(config.target.network.block_size, 28);
    assert!(!config.target.network.nat_outgoing);
    assert!(config.target.cni.is_none());
    assert_eq!(config.target.node.unwrap().image, "mirror/calico/node:v3.14.1");
    let store = config.target.docker.unwrap();
    assert!(config.target.restarts.docker && config.target.restarts.mesos && store.replace);
    assert_eq!((store.max_agents, store.url.as_deref()), (700, Some("etcd://10.0.0.1:2379")));
    assert_eq!(config.target.libnetwork.unwrap().image.as_deref(), Some("mirror/libnetwork-plugin:v1"));
    assert_eq!(config.target.needs.libnetwork.cpus, 200);
    assert_eq!(config.target.needs.docker_cluster_store.mem, 128_000);
    assert_eq!(config.rollout.max_concurrent_restarts.to_string(), "20%");
    assert_eq!(config.rollout.agent_timeout.as_secs(), 300);
    assert_eq!((config.rollout.pace.canary_count, config.rollout.pace.max_per_domain), (3, Some(2)));
    assert_eq!(
        Ok(config.rollout.pace.windows),
        "Mon-Fri 22:00-04:00 Europe/Berlin, Sat+Sun 00:00-24:00".parse()
    );
    assert!(config.rollout.undo_disabled && config.rollout.pace.allow_unsafe.contains("network.name"));
    assert_eq!(config.rollout.stability.as_secs(), 60);
    assert_eq!(config.target.needs.calico_node.cpus, 1000);
    assert_eq!(config.target.needs.calico_node.mem, 512_000);
}
