use super::*;
use crate::options::EtcdOptions;
use crate::steps::net_modules::survey::authority;
use clap::Parser;

fn flags(modules: &str, isolation: &str, hooks: &str) -> AgentFlags {
    AgentFlags::from([(MODULES, modules), (ISOLATION, isolation), (HOOKS, hooks)])
}

#[test]
fn modules_are_loaded_when_they_are_there_and_used() {
    let both =
        format!("{{\"libraries\":[{{\"modules\":[{{\"name\":\"{ISOLATOR}\"}},{{\"name\":\"{HOOK}\"}}]}}]}}");
    let isolation = format!("cgroups/cpu, {ISOLATOR}");
    let none: [&str; 0] = [];
    assert_eq!(not_loaded(&flags(&both, &isolation, HOOK)), none);
    assert_eq!(seen_in(&flags(&both, &isolation, HOOK)).installed, Installed::Yes);
    assert_eq!(not_loaded(&flags(&both, "cgroups/cpu", HOOK)), [ISOLATOR]);
    assert_eq!(seen_in(&flags(&both, "cgroups/cpu", HOOK)).installed, Installed::Partly);
    assert_eq!(not_loaded(&flags(&both, &format!("{ISOLATOR}2"), "a")), [ISOLATOR, HOOK]);
    assert_eq!(not_loaded(&flags("", &isolation, HOOK)), [ISOLATOR, HOOK]);
    assert_eq!(seen_in(&AgentFlags::default()).installed, Installed::No);
}

#[test]
fn any_other_version_is_told_what_to_do_instead() {
    let said = |version: &str| serves(version.parse().unwrap()).map_err(|failure| failure.to_string());
    for version in ["0.28.0", "0.28.1", "0.28.3-rc1"] {
        assert_eq!(said(version), Ok(()));
    }
    for (version, words) in [
        (
            "1.0.0",
            "Mesos 1.0 runs here, and net-modules are for 0.28 alone: this one has CNI: use `calico-installer cni`",
        ),
        ("1.11.0", "`calico-installer cni`"),
        ("0.27.2", "upgrade Mesos, to 1.0 or later"),
        ("0.2.28", "upgrade Mesos"),
    ] {
        let said = said(version).unwrap_err();
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn etcd_is_one_address_without_tls_that_speaks_v2() {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        etcd: EtcdOptions,
    }
    let of = |line: &str| {
        let Line { etcd } = Line::try_parse_from(format!("x {line}").split(' ')).unwrap();
        authority(&etcd).map_err(|failure| failure.to_string())
    };
    let two = "--etcd-endpoints http://10.0.0.1:2379,http://10.0.0.2:2379";
    assert_eq!(of(two).as_deref(), Ok("127.0.0.1:2379"));
    assert_eq!(of(&format!("{two} --etcd-listen 127.0.0.1:4001")).as_deref(), Ok("127.0.0.1:4001"));
    let direct = of("--etcd-endpoints http://10.0.0.1:2379 --etcd-proxy direct");
    assert_eq!(direct.as_deref(), Ok("10.0.0.1:2379"));
    let tls = "--etcd-endpoints https://10.0.0.1:2379 --etcd-ca /ca.pem";
    let v2 = format!("{tls} --etcd-proxy v2-proxy --etcd-peer-urls https://10.0.0.1:2380");
    assert_eq!(of(&v2).as_deref(), Ok("127.0.0.1:2379"));
    for (line, words) in [
        (format!("{two} --etcd-proxy direct"), "one address, and --etcd-endpoints has 2"),
        (tls.to_owned(), "no TLS: give --etcd-proxy v2-proxy"),
        (format!("{two} --etcd-proxy grpc-proxy"), "net-modules needs the v2 API"),
        ("--etcd-discovery-srv etcd.mesos --etcd-proxy direct".to_owned(), "give --etcd-endpoints"),
    ] {
        let said = of(&line).unwrap_err();
        assert!(said.contains(words), "{said}");
    }
}
