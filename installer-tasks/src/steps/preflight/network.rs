//! The pool: whether it is large enough, and nobody else's.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::Findings;
use crate::host::Host;
use crate::host::docker::Docker;
use crate::host::routes::{self, Route};
use crate::options::PreflightOptions;
use crate::values::{Backend, Cidr};

/// In a full mesh each of so many agents has a BGP session with each other.
const MOST_IN_A_MESH: u64 = 100;
/// Where DC/OS has its overlay networks' configuration.
const DCOS_OVERLAY: &str = "/opt/mesosphere/etc/overlay/config";
/// What DC/OS uses where its configuration does not say otherwise: the overlay network, and the addresses of its own DNS.
const DCOS_NETWORKS: [(&str, &str); 2] =
    [("9.0.0.0/8", "DC/OS' overlay network"), ("198.51.100.0/24", "DC/OS' own DNS")];
/// Interfaces that Calico makes.
const CALICO_INTERFACES: [&str; 3] = ["cali", "tunl", "vxlan.calico"];
/// What Calico's plugins for Docker are called.
const CALICO_DRIVER: &str = "calico";

/// There are as many blocks as agents, and BIRD is not asked for a mesh of too many.
pub(super) fn capacity(findings: &mut Findings, options: &PreflightOptions) {
    let Some(agents) = options.agents else {
        return findings.skipped("capacity", "the number of agents is not given as --agents");
    };
    let check = "network.pool-cidr";
    match options.network_pool_cidr {
        None => findings.skipped(check, "no --network-pool-cidr was given"),
        Some(pool) => match blocks(pool, options.network_block_size) {
            None => findings
                .fault(check, format!("a block of /{} does not fit into {pool}", options.network_block_size)),
            Some(blocks) => {
                let text = format!(
                    "{pool} has {blocks} blocks of /{}, one for each agent, and there are {agents} agents",
                    options.network_block_size
                );
                if agents <= blocks {
                    findings.ok(check, text);
                } else {
                    findings.fault(
                        check,
                        format!("{text}: give a larger pool, or a larger --network-block-size"),
                    );
                }
            }
        },
    }
    let check = "network.route-reflectors";
    let encapsulation = match options.line.encapsulation() {
        Ok(encapsulation) => encapsulation,
        Err(failure) => return findings.fault("network.encapsulation", failure.one_line()),
    };
    let bird = options.node_backend.unwrap_or(Backend::for_encapsulation(encapsulation)) == Backend::Bird;
    match (bird, options.network_route_reflectors) {
        (false, _) => findings.ok(check, "BIRD is not used"),
        (true, true) => findings.ok(check, "route reflectors spread routes"),
        (true, false) if agents <= MOST_IN_A_MESH => {
            findings.ok(check, format!("{agents} agents, {MOST_IN_A_MESH} at most without"));
        }
        (true, false) => findings.fault(
            check,
            format!(
                "BIRD connects each of {agents} agents with each other, and {MOST_IN_A_MESH} is as many as that serves: \
                 configure route reflectors in Calico, and say so; or take --network-encapsulation vxlan"
            ),
        ),
    }
}

/// How many blocks a pool has; none when a block is larger than it.
fn blocks(pool: Cidr, block_size: u8) -> Option<u64> {
    1_u64.checked_shl(u32::from(block_size.checked_sub(pool.prefix)?))
}

/// Nobody else on this host has addresses of the pool.
pub(super) async fn overlaps(findings: &mut Findings, host: &Host, options: &PreflightOptions) {
    let check = "pool";
    let Some(pool) = options.network_pool_cidr else {
        return findings.skipped(check, "no --network-pool-cidr was given");
    };
    let before = findings.faults();
    match routes::routes(host) {
        Ok(routes) => of_routes(findings, pool, &routes),
        Err(error) => findings.warning(check, format!("the host's routes are not read: {error}")),
    }
    of_dcos(findings, host, pool);
    let networks = async { Docker::connect(&options.docker.socket).await?.all_networks().await };
    // Without Docker that is said elsewhere.
    for network in networks.await.unwrap_or_default() {
        if network.driver == CALICO_DRIVER {
            continue;
        }
        for subnet in network.subnets.iter().filter_map(|subnet| subnet.parse::<Cidr>().ok()) {
            if pool.overlaps(subnet) {
                findings.fault(
                    check,
                    format!("{pool} overlaps Docker's network {} ({subnet}): change either", network.name),
                );
            }
        }
    }
    if findings.faults() == before {
        findings.ok(check, format!("{pool} is nobody else's here"));
    }
}

fn of_routes(findings: &mut Findings, pool: Cidr, routes: &[Route]) {
    let is_calico = |interface: &str| {
        interface == "*" || CALICO_INTERFACES.iter().any(|prefix| interface.starts_with(prefix))
    };
    // Every host has a route for all that has no other.
    let others = routes.iter().filter(|route| route.network.prefix > 0 && !is_calico(&route.interface));
    for Route { interface, network, has_gateway } in others.filter(|route| pool.overlaps(route.network)) {
        let within = network.prefix >= pool.prefix;
        match (has_gateway, within) {
            (false, _) => findings.fault(
                "pool",
                format!("{pool} overlaps {network}, which this host has on {interface}: give another pool"),
            ),
            // Calico's own, where nothing is encapsulated; or someone's.
            (true, true) => findings.warning(
                "pool",
                format!("{network} of {pool} is reached through {interface} already: unless Calico does so, change either"),
            ),
            (true, false) => findings.warning(
                "pool",
                format!("{pool} is a part of {network}, which is reached through {interface}: what is there of the pool is not any more"),
            ),
        }
    }
}

fn of_dcos(findings: &mut Findings, host: &Host, pool: Cidr) {
    if !host.has(DCOS_OVERLAY) {
        return;
    }
    let configured = subnets_below(&host.place(DCOS_OVERLAY));
    let defaults = DCOS_NETWORKS.iter().filter(|(_, what)| {
        // What is configured stands for the overlay's default.
        configured.is_empty() || *what != DCOS_NETWORKS[0].1
    });
    let defaults = defaults.filter_map(|(subnet, what)| Some((subnet.parse().ok()?, *what)));
    let all = configured.iter().map(|subnet| (*subnet, DCOS_NETWORKS[0].1)).chain(defaults);
    for (subnet, what) in all.filter(|(subnet, _)| pool.overlaps(*subnet)) {
        findings.fault("pool", format!("{pool} overlaps {subnet}, which is {what}: give another pool"));
    }
}

/// Every `subnet` of the JSON files of a directory.
fn subnets_below(directory: &Path) -> Vec<Cidr> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let content = fs::read(entry.path()).unwrap_or_default();
        if let Ok(document) = serde_json::from_slice(&content) {
            subnets_in(&document, &mut found);
        }
    }
    found
}

fn subnets_in(value: &Value, found: &mut Vec<Cidr>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| subnets_in(item, found)),
        Value::Object(fields) => {
            let subnet = fields.get("subnet").and_then(Value::as_str);
            found.extend(subnet.and_then(|text| text.parse::<Cidr>().ok()));
            fields.values().for_each(|field| subnets_in(field, found));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::steps::preflight::Severity;

    fn options(line: &str) -> PreflightOptions {
        let words = ["calico-installer", "preflight", "--docker-socket", "/nonexistent"];
        match Cli::try_parse_from(words.into_iter().chain(line.split_whitespace())).unwrap().command {
            Command::Preflight(options) => options,
            other => panic!("{other:?}"),
        }
    }

    fn shown(findings: &Findings) -> Vec<(Severity, &str, &str)> {
        findings.findings.iter().map(|it| (it.severity, it.check, it.text.as_str())).collect()
    }

    #[test]
    fn as_many_agents_are_served_as_there_are_blocks_and_bird_connects() {
        for (line, expected) in [
            ("", vec![(Severity::Skipped, "capacity")]),
            (
                "--agents 1024 --network-pool-cidr 192.168.0.0/16",
                vec![(Severity::Ok, "network.pool-cidr"), (Severity::Ok, "network.route-reflectors")],
            ),
            (
                "--agents 1025 --network-pool-cidr 192.168.0.0/16",
                vec![(Severity::Fault, "network.pool-cidr"), (Severity::Ok, "network.route-reflectors")],
            ),
            (
                "--agents 1 --network-pool-cidr 192.168.0.0/27",
                vec![(Severity::Fault, "network.pool-cidr"), (Severity::Ok, "network.route-reflectors")],
            ),
            (
                "--agents 101 --network-encapsulation ipip",
                vec![(Severity::Skipped, "network.pool-cidr"), (Severity::Fault, "network.route-reflectors")],
            ),
            (
                "--agents 101 --node-backend bird",
                vec![(Severity::Skipped, "network.pool-cidr"), (Severity::Fault, "network.route-reflectors")],
            ),
            (
                "--agents 101 --node-profile v2.6 --network-route-reflectors",
                vec![(Severity::Skipped, "network.pool-cidr"), (Severity::Ok, "network.route-reflectors")],
            ),
            (
                "--agents 100 --network-encapsulation none",
                vec![(Severity::Skipped, "network.pool-cidr"), (Severity::Ok, "network.route-reflectors")],
            ),
        ] {
            let mut findings = Findings::default();
            capacity(&mut findings, &options(line));
            let found: Vec<_> =
                shown(&findings).into_iter().map(|(severity, check, _)| (severity, check)).collect();
            assert_eq!(found, expected, "{line}: {:?}", shown(&findings));
        }
    }

    #[test]
    fn routes_of_others_are_in_the_pool_s_way_and_calico_s_own_are_not() {
        let pool: Cidr = "192.168.0.0/16".parse().unwrap();
        let route = |interface: &str, network: &str, has_gateway| Route {
            interface: interface.into(),
            network: network.parse().unwrap(),
            has_gateway,
        };
        for (route, severity, words) in [
            (route("eth0", "0.0.0.0/0", true), None, ""),
            (route("eth0", "10.0.0.0/8", false), None, ""),
            (route("*", "192.168.0.64/26", false), None, ""),
            (route("cali123", "192.168.0.1/32", false), None, ""),
            (route("tunl0", "192.168.1.0/26", true), None, ""),
            (route("vxlan.calico", "192.168.1.0/26", true), None, ""),
            (route("eth0", "192.168.1.0/24", false), Some(Severity::Fault), "on eth0: give another pool"),
            (route("docker0", "192.168.0.0/20", false), Some(Severity::Fault), "on docker0"),
            (route("eth1", "192.0.0.0/8", false), Some(Severity::Fault), "overlaps 192.0.0.0/8"),
            (route("eth0", "192.168.1.0/26", true), Some(Severity::Warning), "unless Calico does so"),
            (route("vpn", "192.160.0.0/12", true), Some(Severity::Warning), "a part of 192.160.0.0/12"),
        ] {
            let mut findings = Findings::default();
            of_routes(&mut findings, pool, std::slice::from_ref(&route));
            let found = shown(&findings);
            assert_eq!(found.first().map(|it| it.0), severity, "{route:?}: {found:?}");
            assert!(found.iter().all(|it| it.2.contains(words)), "{route:?}: {found:?}");
        }
    }

    #[tokio::test]
    async fn dcos_own_networks_are_seen_where_its_configuration_is() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::below(root.path());
        fs::create_dir_all(host.place("/proc/net")).unwrap();
        fs::write(host.place("/proc/net/route"), "Iface\n").unwrap();
        let found = async |pool: &str| {
            let mut findings = Findings::default();
            overlaps(&mut findings, &host, &options(&format!("--network-pool-cidr {pool}"))).await;
            shown(&findings)
                .into_iter()
                .map(|(severity, _, text)| (severity, text.to_owned()))
                .collect::<Vec<_>>()
        };
        assert_eq!(found("9.1.0.0/16").await[0].0, Severity::Ok, "no DC/OS");
        fs::create_dir_all(host.place(DCOS_OVERLAY)).unwrap();
        let overlay = found("9.1.0.0/16").await;
        assert!(
            overlay[0].0 == Severity::Fault && overlay[0].1.contains("DC/OS' overlay network"),
            "{overlay:?}"
        );
        assert!(found("198.51.0.0/16").await[0].1.contains("DC/OS' own DNS"));
        assert_eq!(found("192.168.0.0/16").await[0].0, Severity::Ok);
        let config =
            r#"{"network": {"overlays": [{"name": "dcos", "subnet": "44.128.0.0/16", "prefix": 24}]}}"#;
        fs::write(host.place(DCOS_OVERLAY).join("master.json"), config).unwrap();
        assert_eq!(found("9.1.0.0/16").await[0].0, Severity::Ok, "it is configured otherwise");
        assert!(found("44.0.0.0/8").await[0].1.contains("44.128.0.0/16, which is DC/OS' overlay"));
        fs::remove_file(host.place("/proc/net/route")).unwrap();
        assert_eq!(found("192.168.0.0/16").await[0].0, Severity::Warning);
    }
}
