use super::*;
use crate::environment::environment;

mod bad_input;

fn env() -> BTreeMap<String, String> {
    let endpoints = "http://10.0.0.1:2379, http://10.0.0.2:2379";
    environment(&[("PATH", "/bin"), ("CALICO_ETCD_ENDPOINTS", endpoints)])
}

fn faults(changes: &[(&str, &str)]) -> Vec<String> {
    let mut env = env();
    for (name, value) in changes {
        env.insert((*name).to_owned(), (*value).to_owned());
    }
    Config::from_env(&env).unwrap_err().0.iter().map(ToString::to_string).collect()
}

#[test]
fn what_must_be_given_is_enough() {
    let config = Config::from_env(&env()).unwrap();
    assert_eq!(config.service.api_listen.port(), 10_001);
    assert_eq!(config.service.roles, ["*", "slave_public"]);
    assert_eq!(config.target.etcd.endpoints, ["http://10.0.0.1:2379", "http://10.0.0.2:2379"]);
    assert_eq!(config.target.needs.calico_node, Needs { cpus: 200, mem: 256_000 });
    assert_eq!(config.target.installer.uri, "http://10.0.0.9:8080/calico-installer");
    let store = config.target.docker.unwrap();
    assert_eq!((store.max_agents, store.replace), (500, false));
    assert_eq!(config.target.docker_unit, "docker.service");
    assert!(!config.target.restarts.docker && !config.target.restarts.mesos);
    assert_eq!(config.rollout.max_concurrent_restarts, crate::core::Share::Number(1));
    assert_eq!(config.rollout.agent_timeout, Duration::from_mins(15));
    assert_eq!(config.rollout.stability, Duration::from_secs(10));
}

#[test]
fn every_fault_is_reported_at_once() {
    let found = faults(&[
        ("CALICO_ETCD_PROXY", "gatway"),
        ("CALICO_NETWORK_POOL_CIDR", "192.168.1.0/16"),
        ("CALICO_CNI_MEM", "16"),
        ("CALICO_NETWORK_NMAE", "x"),
        ("CALICO_ARTIFACTS_CNI", "http://10.0.0.9/calico"),
        ("CALICO_MESOS_MASTER", "10.0.0.2:5050,zk://10.0.0.1:2181/mesos"),
    ]);
    let expect = [
        "mesos.master = '10.0.0.2:5050,zk://10.0.0.1:2181/mesos': zk:// cannot be mixed with other masters",
        "CALICO_NETWORK_NMAE = 'x': there is no such option; the nearest is CALICO_NETWORK_NAME",
        "etcd.proxy = 'gatway': must be one of: gateway, grpc-proxy, v2-proxy, direct",
        "artifacts.cni = 'http://10.0.0.9/calico': must be URI#sha256=HEX",
        "network.pool-cidr = '192.168.1.0/16': has host bits set; meant is 192.168.0.0/16",
        "cni.mem = '16': must be at least 32 (MB)",
    ];
    for text in expect {
        assert!(found.iter().any(|fault| fault.starts_with(text)), "{text} is not in {found:#?}");
    }
}

#[test]
fn each_wrong_value_of_cni_says_what_would_be_right() {
    for (option, value, problem) in [
        (
            "cni.ipv4-pools",
            "10.1.0.0/16,10.2.0.1/16",
            "'10.2.0.1/16' has host bits set; meant is 10.2.0.0/16",
        ),
        ("cni.ipv4-pools", "fd00::/64", "'fd00::/64' not a network; like 192.168.0.0/16"),
        ("cni.log-level", "loud", "must be one of: debug, info, warning, error"),
        ("cni.nodename-file-optional", "yes", "must be true or false"),
        ("cni.port-mapper", "1", "must be true or false"),
        ("cni.label-wrapper", "on", "must be true or false"),
        ("cni.plugins-dir", "opt/cni/bin", "must be an absolute path"),
        ("mesos.platform", "dc/os", "must be one of: auto, dcos, mesos"),
        (
            "mesos.unit",
            "mesos-slave",
            "must be the name of a systemd service, like docker.service or mesos-slave.service",
        ),
        ("mesos.allow-restart", "maybe", "must be true or false"),
    ] {
        let variable = format!("CALICO_{}", option.replace(['.', '-'], "_").to_uppercase());
        assert_eq!(faults(&[(&variable, value)]), [format!("{option} = '{value}': {problem}")]);
    }
}

#[test]
fn nothing_at_all_names_everything_that_must_be_given() {
    let found = Config::from_env(&BTreeMap::new()).unwrap_err().to_string();
    for option in ["service.api-listen", "etcd.endpoints", "node.image", "artifacts.installer"] {
        assert!(found.contains(option), "{option} is not in {found}");
    }
}

#[test]
fn state_is_in_calicos_etcd_when_no_other_place_is_given() {
    let mut env = env();
    env.remove("CALICO_SERVICE_STATE");
    env.insert("CALICO_ETCD_ENDPOINTS".to_owned(), "http://10.0.0.1:2379/, http://e:2379".to_owned());
    let StateLocation::Etcd(location) = Config::from_env(&env).unwrap().service.state else {
        panic!("it is in a file")
    };
    assert_eq!(location.to_string(), "etcd://10.0.0.1:2379,e:2379/calico-dcos");
    assert_eq!((location.user, location.tls), (None, None));
    // Its own fault is all that is said of a wrong endpoint.
    env.insert("CALICO_ETCD_ENDPOINTS".to_owned(), "10.0.0.1".to_owned());
    assert_eq!(Config::from_env(&env).unwrap_err().0.len(), 1);
}

#[test]
fn what_is_disabled_needs_no_artifacts() {
    let mut env = env();
    for name in
        ["CALICO_ARTIFACTS_CNI", "CALICO_ARTIFACTS_CNI_IPAM", "CALICO_ARTIFACTS_ETCD", "CALICO_NODE_IMAGE"]
    {
        env.remove(name);
    }
    env.remove("CALICO_LIBNETWORK_IMAGE");
    for name in ["CNI_ENABLE", "NODE_ENABLE", "DOCKER_ENABLE", "LIBNETWORK_ENABLE"] {
        env.insert(format!("CALICO_{name}"), "false".to_owned());
    }
    env.insert("CALICO_ETCD_PROXY".to_owned(), "direct".to_owned());
    let target = Config::from_env(&env).unwrap().target;
    assert!(target.cni.is_none() && target.node.is_none());
    assert!(target.docker.is_none() && target.libnetwork.is_none());
}

#[test]
fn what_is_of_no_use_without_the_other_is_refused_and_says_which() {
    let without = |option: &'static str| (option, "false");
    for (changes, expect) in [
        (vec![without("CALICO_DOCKER_ENABLE")], vec!["docker.enable"]),
        (vec![without("CALICO_NODE_ENABLE")], vec!["node.enable"]),
        (
            vec![without("CALICO_DOCKER_ENABLE"), without("CALICO_NODE_ENABLE")],
            vec!["docker.enable", "node.enable"],
        ),
    ] {
        let found = faults(&changes);
        let expect: Vec<String> = expect
            .iter()
            .map(|needed| {
                format!(
                    "libnetwork.enable = 'true': needs {needed}: set {needed} to true, or libnetwork.enable to false"
                )
            })
            .collect();
        assert_eq!(found, expect);
    }
    assert_eq!(faults(&[("CALICO_LIBNETWORK_IMAGE", "")]), ["libnetwork.image: must be given"]);
}

#[test]
fn a_flag_goes_over_the_environment_and_an_empty_value_is_none() {
    let mut env = env();
    env.insert("CALICO_NETWORK_NAME".to_owned(), "from-env".to_owned());
    env.insert("CALICO_NETWORK_MTU".to_owned(), String::new());
    let flags = BTreeMap::from([("network.name", "from-flag".to_owned())]);
    let config = Config::read(&env, flags).unwrap();
    assert_eq!(config.target.network.name, "from-flag");
    assert_eq!(config.target.network.mtu, None);
}

#[test]
fn state_in_etcd_has_members_a_prefix_and_a_password_that_is_never_shown() {
    let state = |value: &str| {
        let mut env = env();
        env.insert("CALICO_SERVICE_STATE".to_owned(), value.to_owned());
        Config::from_env(&env).unwrap().service.state
    };
    let StateLocation::Etcd(location) = state("etcd://me:p@s/s:w@10.0.0.1:2379,10.0.0.2:2379/a/b/") else {
        panic!("not in etcd");
    };
    assert_eq!(location.members, ["10.0.0.1:2379", "10.0.0.2:2379"]);
    assert_eq!(location.user, Some(("me".to_owned(), "p@s/s:w".to_owned())));
    assert_eq!(location.prefix, "/a/b");
    assert_eq!(format!("{location:?}"), "etcd://10.0.0.1:2379,10.0.0.2:2379/a/b");
    let StateLocation::Etcd(location) = state("etcd://10.0.0.1:2379") else { panic!("not in etcd") };
    assert_eq!((location.prefix.as_str(), location.user), ("/calico-dcos", None));

    let found = faults(&[("CALICO_SERVICE_STATE", "etcd://me:s3cret@10.0.0.1")]);
    assert!(found[0].contains("etcd://me:…@10.0.0.1") && !found[0].contains("s3cret"), "{found:?}");
}

#[test]
fn a_back_end_carries_its_encapsulation() {
    let of = |encapsulation: &str, backend: &str| {
        let mut env = env();
        for (name, value) in [("NETWORK_ENCAPSULATION", encapsulation), ("NODE_BACKEND", backend)] {
            env.insert(format!("CALICO_{name}"), value.to_owned());
        }
        Config::from_env(&env).map(|_| ()).map_err(|faults| faults.to_string())
    };
    for (encapsulation, backend) in [
        ("vxlan", "vxlan"),
        ("vxlan", "bird"),
        ("ipip", "bird"),
        ("none", "bird"),
        ("none", "none"),
        ("ipip", ""),
    ] {
        assert_eq!(of(encapsulation, backend), Ok(()));
    }
    for (encapsulation, backend, right) in [
        ("ipip", "vxlan", "bird"),
        ("ipip", "none", "bird"),
        ("vxlan", "none", "vxlan, bird"),
        ("none", "vxlan", "bird, none"),
    ] {
        let error = of(encapsulation, backend).unwrap_err();
        let expected = format!(
            "node.backend = '{backend}': does not carry network.encapsulation = '{encapsulation}': \
             leave it out, or give one of: {right}"
        );
        assert!(error.ends_with(&expected), "{error}");
    }
}

#[test]
fn recoveries_are_limited_by_numbers_or_percentages() {
    use crate::core::Share;
    let config = Config::from_env(&env()).unwrap();
    let Recovery { max_concurrent, mass_failure } = config.recovery;
    assert_eq!((max_concurrent, mass_failure), (Share::Percent(10), Share::Percent(20)));
    assert_eq!(config.agents.forget_after, Duration::from_hours(24));
    assert_eq!(config.agents.task_timeout, Duration::from_mins(15));
    let wrong = [
        ("CALICO_RECOVERY_MAX_CONCURRENT", "0"),
        ("CALICO_RECOVERY_MASS_FAILURE", "120%"),
        ("CALICO_AGENTS_FORGET_AFTER", "0s"),
        ("CALICO_AGENTS_TASK_TIMEOUT", "30s"),
    ];
    let share = "must be a number of agents from 1, like 5, or a percentage from 1% to 100%, like 10%";
    let expected = [
        "agents.forget-after = '0s': must be at least 1s".to_owned(),
        "agents.task-timeout = '30s': must be at least 1m".to_owned(),
        format!("recovery.max-concurrent = '0': {share}"),
        format!("recovery.mass-failure = '120%': {share}"),
    ];
    assert_eq!(faults(&wrong), expected);
}

#[test]
fn installs_are_looked_at_as_often_as_the_operator_says_or_never() {
    let of = |interval: &str| {
        let mut env = env();
        env.insert("CALICO_VERIFY_INTERVAL".to_owned(), interval.to_owned());
        Config::from_env(&env).unwrap().verify_interval
    };
    assert_eq!(Config::from_env(&env()).unwrap().verify_interval, Some(Duration::from_hours(1)));
    assert_eq!((of("10s"), of("0s")), (Some(Duration::from_secs(10)), None));
    let expected = ["verify.interval = '9s': must be at least 10s, or 0s for never"];
    assert_eq!(faults(&[("CALICO_VERIFY_INTERVAL", "9s")]), expected);
}

#[test]
fn a_rollout_is_as_the_operator_says() {
    use crate::core::{self, OnFailure, RolloutStrategy, Timestamp};
    let rollout = Config::from_env(&env()).unwrap().rollout;
    // What operators find in the options is what the core has without any.
    assert_eq!(rollout.pace, core::Rollout::default());
    assert_eq!((rollout.stability, rollout.undo_disabled), (Duration::from_secs(10), false));

    let mut env = env();
    for (name, value) in [
        ("STRATEGY", "serial"),
        ("MAX_PER_DOMAIN", "2"),
        ("DOMAIN_ATTRIBUTE", "rack"),
        ("WINDOWS", "Mon-Fri 22:00-04:00 Europe/Berlin, Sun 00:00-24:00"),
        ("UNDO_DISABLED", "true"),
        ("ON_FAILURE", "rollback"),
        ("ALLOW_UNSAFE", "etcd.endpoints, network.name"),
    ] {
        env.insert(format!("CALICO_ROLLOUT_{name}"), value.to_owned());
    }
    let Rollout { pace: rollout, undo_disabled, .. } = Config::from_env(&env).unwrap().rollout;
    assert_eq!((rollout.strategy, rollout.on_failure), (RolloutStrategy::Serial, OnFailure::Rollback));
    assert_eq!(rollout.strategy, RolloutStrategy::Serial);
    assert_eq!((rollout.max_per_domain, rollout.domain_attribute.as_deref()), (Some(2), Some("rack")));
    env.insert("CALICO_ROLLOUT_ON_FAILURE".to_owned(), "pause".to_owned());
    let refused = Config::from_env(&env).unwrap_err().to_string();
    assert!(refused.contains("rollout.on-failure = 'pause'") && refused.contains("rollback"), "{refused}");
    // The first of January 1970 was a Thursday.
    let hour = 60 * 60 * 1000;
    assert!(!rollout.windows.is_open(Timestamp(20 * hour)) && rollout.windows.is_open(Timestamp(22 * hour)));
    assert!(undo_disabled);
    assert_eq!(rollout.allow_unsafe, ["etcd.endpoints", "network.name"].map(str::to_owned).into());
}

#[test]
fn the_attribute_of_domains_is_of_no_use_without_their_limit() {
    let expected =
        ["rollout.domain-attribute = 'rack': does nothing alone: give rollout.max-per-domain, too"];
    assert_eq!(faults(&[("CALICO_ROLLOUT_DOMAIN_ATTRIBUTE", "rack")]), expected);
}

#[test]
fn what_is_guarded_is_equal_when_it_means_the_same() {
    let guarded = |changes: &[(&str, &str)]| {
        let mut env = env();
        env.extend(changes.iter().map(|(name, value)| (format!("CALICO_{name}"), (*value).to_owned())));
        Config::from_env(&env).unwrap().target.guarded()
    };
    let before = guarded(&[]);
    let expected = [
        ("etcd.endpoints", "http://10.0.0.1:2379,http://10.0.0.2:2379"),
        ("etcd.proxy", "http://127.0.0.1:2379"),
        ("network.block-size", "26"),
        ("network.name", "calico"),
        ("network.pool-cidr", "192.168.0.0/16"),
        ("node.profile", "v3"),
    ];
    let texts = before.iter().map(|(option, value)| (option.as_str(), value.as_str()));
    assert_eq!(texts.collect::<Vec<_>>(), expected);
    let same = [
        ("ETCD_ENDPOINTS", "http://10.0.0.2:2379/,http://10.0.0.1:2379,http://10.0.0.2:2379"),
        ("NODE_ENABLE", "false"),
        ("LIBNETWORK_ENABLE", "false"),
        ("NETWORK_BLOCK_SIZE", " 26"),
    ];
    assert_eq!(guarded(&same), before);
    for (name, value, option) in [
        ("ETCD_ENDPOINTS", "http://10.0.0.1:2379", "etcd.endpoints"),
        ("NETWORK_BLOCK_SIZE", "27", "network.block-size"),
        ("NETWORK_NAME", "other", "network.name"),
        ("NETWORK_POOL_CIDR", "10.1.0.0/16", "network.pool-cidr"),
        ("ETCD_PROXY", "direct", "etcd.proxy"),
        ("ETCD_LISTEN", "127.0.0.1:2380", "etcd.proxy"),
    ] {
        let after = guarded(&[(name, value)]);
        let changed: Vec<&String> = before.keys().filter(|key| before.get(*key) != after.get(*key)).collect();
        assert_eq!(changed, [option]);
    }
}

#[test]
fn the_own_host_is_the_one_that_marathon_says() {
    let host = |value: Option<&str>| {
        let mut env = env();
        env.extend(value.map(|host| ("HOST".to_owned(), host.to_owned())));
        Config::from_env(&env).unwrap().service.host
    };
    assert_eq!(
        (host(Some("10.0.0.7")).as_deref(), host(Some("")), host(None)),
        (Some("10.0.0.7"), None, None)
    );
}

#[test]
fn state_in_an_etcd_with_tls_takes_files_that_go_together_and_no_other_state_does() {
    use rcgen::{CertificateParams, KeyPair};
    let dir = tempfile::tempdir().unwrap();
    let certificate = || {
        let key = KeyPair::generate().unwrap();
        (CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let ((certificate, key), (_, other)) = (certificate(), certificate());
    let file = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name).to_str().unwrap().to_owned()
    };
    let files = [("cert", &*certificate), ("key", &*key), ("other", &*other), ("none", "what?")];
    let [certificate, key, other, none] = files.map(|(name, text)| file(name, text));
    let tls = ("CALICO_SERVICE_STATE", "etcds://10.0.0.1:2379");
    let (ca, cert, private) =
        ("CALICO_SERVICE_STATE_CA_FILE", "CALICO_SERVICE_STATE_CERT_FILE", "CALICO_SERVICE_STATE_KEY_FILE");

    let mut env = env();
    for (name, value) in [tls, (ca, &certificate), (cert, &certificate), (private, &key)] {
        env.insert(name.to_owned(), value.to_owned());
    }
    let StateLocation::Etcd(location) = Config::from_env(&env).unwrap().service.state else {
        panic!("not in etcd")
    };
    assert!(location.tls.as_ref().unwrap().identity.is_some());
    let shown = format!("{location:?} {:?}", location.tls);
    assert!(shown.starts_with("etcds://10.0.0.1:2379/calico-dcos") && !shown.contains("BEGIN"), "{shown}");

    for (changes, expect) in [
        (vec![tls, (cert, &certificate)], "service.state-key-file must be given with it"),
        (vec![tls, (private, &key)], "service.state-cert-file must be given with it"),
        (vec![tls, (cert, &certificate), (private, &other)], "does not go with service.state-cert-file"),
        (vec![tls, (cert, &certificate), (private, &none)], "no private key"),
        (vec![tls, (cert, &none), (private, &key)], "no certificate"),
        (vec![tls, (ca, &none)], "no certificate"),
        (vec![tls, (ca, "/not/there")], "cannot be read"),
        (
            vec![("CALICO_SERVICE_STATE", "etcd://10.0.0.1:2379"), (ca, &certificate)],
            "must begin with etcds://",
        ),
        (vec![(ca, &certificate)], "must begin with etcds://, or etcd.endpoints with https://"),
    ] {
        let found = faults(&changes);
        assert_eq!(found.len(), 1, "{expect}: {found:?}");
        assert!(found[0].starts_with("service.state-") && found[0].contains(expect), "{expect}: {found:?}");
    }
}

#[test]
fn how_hosts_reach_etcd_goes_together_or_is_refused_with_what_would() {
    const HTTPS: (&str, &str) = ("ETCD_ENDPOINTS", "https://10.0.0.1:2379");
    const CA: (&str, &str) = ("ETCD_CA", "/etc/ca.pem");
    const CERT: (&str, &str) = ("ETCD_CERT", "/etc/cert.pem");
    const KEY: (&str, &str) = ("ETCD_KEY", "secret:calico/key");
    const GRPC: (&str, &str) = ("ETCD_PROXY", "grpc-proxy");
    const V2: (&str, &str) = ("ETCD_PROXY", "v2-proxy");
    const DIRECT: (&str, &str) = ("ETCD_PROXY", "direct");
    const V26: (&str, &str) = ("NODE_PROFILE", "v2.6");
    const PEERS: (&str, &str) = ("ETCD_PEER_URLS", "http://10.0.0.1:2380");
    const STORE: (&str, &str) = ("DOCKER_CLUSTER_STORE", "etcd://10.0.0.1:2379");
    const SRV: (&str, &str) = ("ETCD_DISCOVERY_SRV", "etcd.mesos");
    const NO_ENDPOINTS: (&str, &str) = ("ETCD_ENDPOINTS", "");
    const NO_DOCKER: (&str, &str) = ("DOCKER_ENABLE", "false");
    const NO_PLUGIN: (&str, &str) = ("LIBNETWORK_ENABLE", "false");
    let read = |changes: &[(&str, &str)]| {
        let mut env = env();
        env.extend(changes.iter().map(|(name, value)| (format!("CALICO_{name}"), (*value).to_owned())));
        Config::from_env(&env).map_err(|faults| faults.0.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    for fine in [
        &[GRPC, STORE][..],
        &[GRPC, NO_DOCKER, NO_PLUGIN],
        &[V2, V26, PEERS],
        &[V2, V26, SRV, NO_ENDPOINTS],
        &[SRV, NO_ENDPOINTS],
        &[SRV, NO_ENDPOINTS, DIRECT, STORE, NO_PLUGIN],
        &[HTTPS, CA, CERT, KEY],
        &[HTTPS, CA, STORE],
        &[HTTPS, CA, CERT, KEY, DIRECT],
        &[HTTPS, CA, GRPC, STORE],
        &[("NODE_PROFILE", "v2.6"), ("NETWORK_ENCAPSULATION", "none")],
    ] {
        assert!(read(fine).is_ok(), "{fine:?}: {:?}", read(fine).err());
    }
    let open = ("ETCD_LISTEN", "0.0.0.0:2379");
    for (changes, expected) in [
        (
            &[GRPC][..],
            "etcd.proxy = 'grpc-proxy': serves the v3 API only, and Docker's cluster store needs v2",
        ),
        (
            &[GRPC, STORE, V26],
            "etcd.proxy = 'grpc-proxy': serves the v3 API only, and node.profile = v2.6 needs v2",
        ),
        (
            &[GRPC, ("DOCKER_CLUSTER_STORE", "etcd://127.0.0.1:2379")],
            "etcd.proxy = 'grpc-proxy': serves the v3 API only, and Docker's cluster store",
        ),
        (&[V2, PEERS], "etcd.proxy = 'v2-proxy': serves the v2 API only, and node.profile = v3 needs v3"),
        (&[V2, V26], "etcd.peer-urls: must be given for etcd.proxy = v2-proxy, like http://10.0.0.1:2380"),
        (
            &[V2, V26, ("ETCD_PEER_URLS", "https://a:2380")],
            "https://a:2380 speaks TLS: etcd.ca must be given",
        ),
        (&[SRV], "etcd.discovery-srv = 'etcd.mesos': is given beside etcd.endpoints: give one of them"),
        (&[NO_ENDPOINTS], "etcd.endpoints: must name the etcd that Calico is to use, like"),
        (&[("ETCD_DISCOVERY_SRV", "http://a"), NO_ENDPOINTS], "must be a DNS name, like etcd.mesos"),
        (
            &[SRV, NO_ENDPOINTS, DIRECT, NO_PLUGIN],
            "does not serve docker.enable without docker.cluster-store",
        ),
        (&[SRV, NO_ENDPOINTS, DIRECT, STORE], "does not serve libnetwork.enable"),
        (&[SRV, NO_ENDPOINTS, DIRECT, STORE, NO_PLUGIN, V26], "does not serve node.profile = v2.6"),
        (
            &[SRV, NO_ENDPOINTS, ("SERVICE_STATE", "")],
            "service.state: must be given: only with etcd.endpoints",
        ),
        (&[HTTPS, CA, CERT, STORE], "etcd.cert = '/etc/cert.pem': etcd.key must be given with it"),
        (&[HTTPS, CA, KEY, STORE], "etcd.key = '(not shown)': etcd.cert must be given with it"),
        (&[CERT, KEY], "etcd.ca: must be given with etcd.cert and etcd.key"),
        (&[HTTPS, CA], "etcd.cert: and etcd.key must be given: Docker speaks TLS"),
        (&[HTTPS, CA, GRPC, STORE, open], "etcd.listen = '0.0.0.0:2379': is open to other hosts"),
        (
            &[V26, ("NETWORK_ENCAPSULATION", "vxlan")],
            "network.encapsulation = 'vxlan': must be one of: ipip, none",
        ),
        (
            &[V26, ("NETWORK_BLOCK_SIZE", "28")],
            "network.block-size = '28': must be 26 with node.profile = v2.6",
        ),
    ] {
        let found = read(changes).expect_err(expected);
        assert!(found.len() == 1 && found[0].contains(expected), "{expected}: {found:?}");
    }
}

#[test]
fn what_a_line_of_calico_has_follows_from_it() {
    let target = |changes: &[(&str, &str)]| {
        let mut env = env();
        env.extend(changes.iter().map(|(name, value)| (format!("CALICO_{name}"), (*value).to_owned())));
        Config::from_env(&env).unwrap().target
    };
    let (three, two) = (target(&[]), target(&[("NODE_PROFILE", "v2.6"), ("LIBNETWORK_IMAGE", "")]));
    assert_eq!((three.profile, three.network.encapsulation), (Profile::V3, Encapsulation::Vxlan));
    assert_eq!((two.profile, two.network.encapsulation), (Profile::V26, Encapsulation::Ipip));
    assert!(three.libnetwork.unwrap().image.is_some());
    assert_eq!(two.libnetwork.unwrap().image, None, "it is a part of calico-node");
    assert_eq!(target(&[("NETWORK_ENCAPSULATION", "none")]).network.encapsulation, Encapsulation::None);
}

#[test]
fn state_beside_an_etcd_with_tls_is_reached_with_tls() {
    let mut env = env();
    env.remove("CALICO_SERVICE_STATE");
    for (name, value) in [
        ("ENDPOINTS", "https://10.0.0.1:2379"),
        ("CA", "/etc/ca.pem"),
        ("CERT", "/etc/cert.pem"),
        ("KEY", "/etc/key.pem"),
    ] {
        env.insert(format!("CALICO_ETCD_{name}"), value.to_owned());
    }
    let StateLocation::Etcd(location) = Config::from_env(&env).unwrap().service.state else {
        panic!("it is in a file")
    };
    assert_eq!(location.to_string(), "etcds://10.0.0.1:2379/calico-dcos");
}

#[test]
fn how_many_agents_are_served_follows_from_pool_and_back_end() {
    let capacities = |changes: &[(&str, &str)]| {
        let mut env = env();
        env.extend(changes.iter().map(|(name, value)| (format!("CALICO_{name}"), (*value).to_owned())));
        let capacities = Config::from_env(&env).unwrap().target.capacities();
        capacities.iter().map(|it| (it.option, it.number)).collect::<Vec<_>>()
    };
    let (pool, mesh) = ("network.pool-cidr", "network.route-reflectors");
    let bird = ("NETWORK_ENCAPSULATION", "ipip");
    assert_eq!(capacities(&[]), [(pool, 1024)]);
    assert_eq!(capacities(&[("NETWORK_POOL_CIDR", "10.1.0.0/26")]), [(pool, 1)]);
    assert_eq!(capacities(&[("NETWORK_BLOCK_SIZE", "32")]), [(pool, 65536)]);
    assert_eq!(
        capacities(&[
            ("NETWORK_POOL_CIDR", "0.0.0.0/1"),
            ("NETWORK_BLOCK_SIZE", "32"),
            ("ETCD_ENDPOINTS", "http://e:1")
        ]),
        [(pool, 1 << 31)]
    );
    assert_eq!(capacities(&[bird]), [(pool, 1024), (mesh, 100)]);
    assert_eq!(capacities(&[("NODE_BACKEND", "bird")]), [(pool, 1024), (mesh, 100)]);
    assert_eq!(capacities(&[bird, ("NETWORK_ROUTE_REFLECTORS", "true")]), [(pool, 1024)]);
    assert_eq!(capacities(&[bird, ("NODE_ENABLE", "false"), ("LIBNETWORK_ENABLE", "false")]), []);
}

/// Who gives a login in place of its file must not find it in a log.
#[test]
fn what_may_be_a_password_is_not_shown() {
    let found = faults(&[("CALICO_REGISTRY_CREDENTIALS", "user:s3cret")]);
    assert_eq!(found.len(), 1, "{found:?}");
    let begin = "registry.credentials = '(not shown)': must be /path on the agents";
    assert!(found[0].starts_with(begin), "{found:?}");
}
