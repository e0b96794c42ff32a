//! What options cannot be.

use super::*;

/// Options that may be any text: attributes of agents are.
const ANY_TEXT: [&str; 2] = ["agents.exclude", "agents.only"];

/// All faults; none where it is taken.
fn refused(changes: &[(&str, &str)]) -> Vec<String> {
    let mut env = env();
    env.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    Config::from_env(&env)
        .err()
        .map_or_else(Vec::new, |faults| faults.0.iter().map(ToString::to_string).collect())
}

/// Whatever it is for, this is none: no number, time, path, name, address, choice or URL.
#[test]
fn every_option_refuses_what_it_cannot_be_and_names_itself() {
    let value = "-/, ?";
    let mut accepted = Vec::new();
    for option in OPTIONS {
        let found = refused(&[(&option.env(), value)]);
        let own = format!("{} = '", option.name);
        let said = found.iter().find(|fault| fault.starts_with(&own));
        let Some(said) = said else {
            accepted.push(option.name);
            continue;
        };
        let (_, problem) = said.split_once("': ").unwrap();
        assert!(problem.len() > 10, "{said}");
    }
    assert_eq!(accepted, ANY_TEXT);
}

#[test]
fn bad_input_of_every_kind_names_the_option_and_what_would_be_right() {
    for (option, value, right) in [
        ("SERVICE_STATE", "/var/lib/x", "file:/path"),
        ("SERVICE_STATE", "file:relative", "absolute"),
        ("SERVICE_STATE", "etcd://10.0.0.1", "host:port"),
        ("SERVICE_STATE", "etcd:///calico", "host:port"),
        ("SERVICE_STATE", "etcd://me@10.0.0.1:2379", "user:password"),
        ("SERVICE_STATE", "etcd://10.0.0.1:2379/a//b", "prefix"),
        ("SERVICE_API_LISTEN", "8080", "127.0.0.1:2379"),
        ("SERVICE_FAILOVER_TIMEOUT", "7 fortnights", "168h"),
        ("SERVICE_FAILOVER_TIMEOUT", "0s", "at least 1h"),
        ("SERVICE_ROLE", "a b", "role"),
        ("SERVICE_ROLE", "*,a,*", "'*' is named twice"),
        ("MESOS_INVENTORY_INTERVAL", "10ms", "at least 1s"),
        ("MESOS_MASTER", "leader.mesos", "host:port"),
        ("ETCD_ENDPOINTS", "10.0.0.1:2379", "http://"),
        ("ETCD_ENDPOINTS", "https://10.0.0.1:2379", "etcd.ca: must be given"),
        ("ETCD_ENDPOINTS", "http://10.0.0.1:2379,https://10.0.0.2:2379", "all must be the same"),
        ("ETCD_LISTEN", "2379", "127.0.0.1:2379"),
        ("ETCD_CA", "/etc/ca.pem", "etcd.endpoints must begin with https://"),
        ("ETCD_CA", "ca.pem", "secret:NAME"),
        ("ETCD_PEER_URLS", "10.0.0.1:2380", "http://"),
        ("NODE_PROFILE", "v1", "v3, v2.6"),
        ("NETWORK_NAME", "My_Net", "lower-case"),
        ("NETWORK_BLOCK_SIZE", "8", "20 to 32"),
        ("NETWORK_MTU", "1", "576"),
        ("NETWORK_NAT_OUTGOING", "yes", "true or false"),
        ("NETWORK_ROUTE_REFLECTORS", "3", "true or false"),
        ("NETWORK_POOL_CIDR", "10.0.0.0/24", "holds the address of etcd (http://10.0.0.1:2379)"),
        ("NODE_BACKEND", "quagga", "bird"),
        ("NODE_IP", "::1", "IPv4"),
        ("CNI_PLUGINS_DIR", "opt", "absolute"),
        ("DOCKER_ENABLE", "maybe", "true or false"),
        ("DOCKER_ALLOW_RESTART", "1", "true or false"),
        ("DOCKER_CLUSTER_STORE", "http://10.0.0.1:2379", "etcd:// or zk://"),
        ("DOCKER_CLUSTER_STORE", "etcd://10.0.0.1", "host:port"),
        ("DOCKER_CLUSTER_STORE", "zk://10.0.0.1:2181,/x", "host:port"),
        ("DOCKER_CLUSTER_ADVERTISE", "10.0.0.1", "IP:PORT"),
        ("DOCKER_CLUSTER_ADVERTISE", "0.0.0.0:2376", "IP:PORT"),
        ("DOCKER_CLUSTER_STORE_OPTS", "kv.path", "name=value"),
        ("DOCKER_CLUSTER_STORE_OPTS", "a=1,a=2", "'a' is given twice"),
        ("DOCKER_MAX_AGENTS", "0", "from 1"),
        ("DOCKER_REPLACE_STORE", "yes", "true or false"),
        ("DOCKER_UNIT", "docker", "docker.service"),
        ("DOCKER_SOCKET", "docker.sock", "absolute"),
        ("LIBNETWORK_ENABLE", "on", "true or false"),
        ("MESOS_ALLOW_RESTART", "on", "true or false"),
        ("ROLLOUT_MAX_CONCURRENT_RESTARTS", "0", "like 10%"),
        ("ROLLOUT_AGENT_TIMEOUT", "10s", "at least 1m"),
        ("ROLLOUT_STRATEGY", "blue-green", "canary, serial, parallel"),
        ("ROLLOUT_CANARY_COUNT", "0", "from 1"),
        ("ROLLOUT_CANARY_COUNT", "10%", "from 1"),
        ("ROLLOUT_CANARY_SOAK", "a while", "30s"),
        ("ROLLOUT_MAX_CONCURRENT_AGENTS", "0%", "like 10%"),
        ("ROLLOUT_MAX_PER_DOMAIN", "-1", "from 1"),
        ("ROLLOUT_DOMAIN_ATTRIBUTE", "rack:a7", "like rack"),
        ("ROLLOUT_WINDOWS", "at night", "'night' must be two times from 00:00 to 24:00"),
        ("ROLLOUT_WINDOWS", "Mon-Fri 22:00-04:00 Europe/Berln", "IANA"),
        ("ROLLOUT_WINDOWS", "daily 01:00-02:00, Mon", "like 'Mon-Fri 22:00-04:00 Europe/Berlin'"),
        ("ROLLOUT_STABILITY", "0s", "at least 1s"),
        ("ROLLOUT_MAX_ATTEMPTS", "0", "from 1"),
        ("ROLLOUT_MAX_ATTEMPTS", "5000000000", "from 1"),
        ("ROLLOUT_MAX_FAILURES", "none", "from 1"),
        ("ROLLOUT_UNDO_DISABLED", "yes", "true or false"),
        (
            "ROLLOUT_ALLOW_UNSAFE",
            "network.name,network.mtu",
            "'network.mtu' is no option whose change is unsafe; those are: network.name, network.pool-cidr, \
             network.block-size, node.profile, etcd.endpoints, etcd.proxy",
        ),
        ("SERVICE_USER", "root:root", "like root"),
        ("NODE_IMAGE", "calico/node v3", "like calico/node:v3.14.0"),
        ("LIBNETWORK_IMAGE", "--privileged", "like calico/node:v3.14.0"),
        ("NODE_NAME", "Host-1", "lower-case"),
        ("MESOS_PLATFORM", "plain", "auto, dcos, mesos"),
        ("RECOVERY_MAX_CONCURRENT", "10 %", "like 10%"),
        ("VERIFY_INTERVAL", "hourly", "168h"),
        ("PREFETCH_MEM", "8", "at least 32"),
        ("DOCKER_CLUSTER_STORE_CPUS", "0", "0.1"),
        ("LIBNETWORK_MEM", "8", "at least 32"),
        ("DOCKER_NETWORK_MEM", "8", "at least 32"),
        ("CALICO_NODE_CPUS", "lots", "0.1"),
    ] {
        let found = faults(&[(&format!("CALICO_{option}"), value)]);
        assert_eq!(found.len(), 1, "{option}: {found:?}");
        assert!(found[0].contains(right) && found[0].contains(value), "{option}: {found:?}");
    }
}
