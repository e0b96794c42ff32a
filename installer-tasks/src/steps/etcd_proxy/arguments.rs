//! The arguments of etcd that make it a proxy.

use std::path::Path;
use std::time::Duration;

use crate::exit::{Failure, Result};
use crate::options::{EtcdOptions, EtcdTls, join};
use crate::values::{Endpoint, EtcdProxy, Scheme};

/// How long the gateway leaves a member alone that it could not reach. Its own default, a minute, would cut every host
/// off for as long after each outage.
const MEMBER_AGAIN: Duration = Duration::from_secs(10);

/// What only v2-proxy uses.
pub(super) struct ForV2<'a> {
    /// The members' peer URLs, where they were found by SRV records.
    pub found: Vec<Endpoint>,
    /// The directory in which it remembers which members it has found, and takes that for newer than what it is told.
    pub data: &'a Path,
}

/// All of them.
pub(super) fn arguments(options: &EtcdOptions, v2: &ForV2<'_>) -> Result<Vec<String>> {
    let tls = options.upstream.tls()?;
    match options.proxy {
        EtcdProxy::Direct => Err(Failure::unsuitable(
            "--etcd-proxy direct has no proxy to run: clients use --etcd-endpoints themselves",
        )),
        EtcdProxy::Gateway => Ok(gateway(options)),
        EtcdProxy::GrpcProxy => {
            refuse_open_door(options, tls.as_ref())?;
            Ok(grpc_proxy(options, tls.as_ref()))
        }
        EtcdProxy::V2Proxy => {
            refuse_open_door(options, tls.as_ref())?;
            let peers = if v2.found.is_empty() { &options.peer_urls } else { &v2.found };
            refuse_peers(peers, tls.as_ref())?;
            Ok(v2_proxy(options, peers, tls.as_ref(), v2.data))
        }
    }
}

/// TCP passed through: TLS is spoken by the clients, and verified by them, with whatever member it leads to.
fn gateway(options: &EtcdOptions) -> Vec<String> {
    let upstream = &options.upstream;
    let mut arguments = words(&["gateway", "start"]);
    arguments.push(flag("listen-addr", options.listen));
    if let Some(name) = &upstream.discovery_srv {
        arguments.extend([flag("discovery-srv", name), flag("insecure-discovery", true)]);
    } else {
        let members: Vec<String> = upstream.endpoints.iter().map(Endpoint::authority).collect();
        arguments.push(flag("endpoints", members.join(",")));
    }
    arguments.push(format!("--retry-delay={}s", MEMBER_AGAIN.as_secs()));
    arguments
}

fn grpc_proxy(options: &EtcdOptions, tls: Option<&EtcdTls>) -> Vec<String> {
    let upstream = &options.upstream;
    let mut arguments = words(&["grpc-proxy", "start"]);
    arguments.push(flag("listen-addr", options.listen));
    match &upstream.discovery_srv {
        // With TLS, only members whose certificate is for the name: nobody else's records lead us elsewhere.
        Some(name) => {
            arguments.extend([flag("discovery-srv", name), flag("insecure-discovery", tls.is_none())]);
        }
        None => arguments.push(flag("endpoints", join(&upstream.endpoints))),
    }
    arguments.extend(files(tls, ["cacert", "cert", "key"]));
    arguments
}

fn v2_proxy(options: &EtcdOptions, peers: &[Endpoint], tls: Option<&EtcdTls>, data: &Path) -> Vec<String> {
    let named = |(number, url): (usize, &Endpoint)| format!("member{number}={url}");
    let peers: Vec<String> = peers.iter().enumerate().map(named).collect();
    let mut arguments = vec![
        flag("proxy", "on"),
        flag("data-dir", data.display()),
        format!("--listen-client-urls=http://{}", options.listen),
        flag("initial-cluster", peers.join(",")),
    ];
    // It takes them for the members' client URLs as well.
    arguments.extend(files(tls, ["peer-trusted-ca-file", "peer-cert-file", "peer-key-file"]));
    arguments
}

/// A proxy that speaks TLS for its clients lends this host's certificate to whoever reaches it.
fn refuse_open_door(options: &EtcdOptions, tls: Option<&EtcdTls>) -> Result<()> {
    if tls.is_none() || options.listen.ip().is_loopback() {
        return Ok(());
    }
    Err(Failure::unsuitable(format!(
        "--etcd-listen {} is open to other hosts, and --etcd-proxy {} speaks TLS with etcd for all who reach it: give a \
         loopback address, or --etcd-proxy gateway",
        options.listen,
        options.proxy.name()
    )))
}

fn refuse_peers(peers: &[Endpoint], tls: Option<&EtcdTls>) -> Result<()> {
    if peers.is_empty() {
        return Err(Failure::unsuitable(
            "--etcd-proxy v2-proxy finds the members at their peer URLs: give --etcd-peer-urls, such as \
             http://10.0.0.1:2380, or --etcd-discovery-srv",
        ));
    }
    let speaks_tls = |url: &&Endpoint| url.scheme == Scheme::Https;
    match peers.iter().find(speaks_tls) {
        Some(url) if tls.is_none() => Err(Failure::unsuitable(format!(
            "--etcd-peer-urls: {url} speaks TLS: --etcd-ca must give the certificates of the authorities that are trusted"
        ))),
        _ => Ok(()),
    }
}

fn files(tls: Option<&EtcdTls>, names: [&str; 3]) -> Vec<String> {
    let files = tls.into_iter().flat_map(EtcdTls::files);
    files.zip(names).map(|((_, file), name)| flag(name, file)).collect()
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use proptest::prelude::*;

    use super::*;
    use crate::exit::Exit;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        etcd: EtcdOptions,
    }

    fn parsed(line: &str) -> EtcdOptions {
        let words = line.split(' ').filter(|word| !word.is_empty());
        Line::try_parse_from(["etcd-proxy"].into_iter().chain(words))
            .unwrap_or_else(|error| panic!("{error}"))
            .etcd
    }

    fn of(line: &str) -> Result<String> {
        arguments(&parsed(line), &v2(&[])).map(|arguments| arguments.join(" "))
    }

    /// Peers that were found by SRV records.
    fn v2(found: &[&str]) -> ForV2<'static> {
        ForV2 { found: found.iter().map(|url| url.parse().unwrap()).collect(), data: Path::new("/d") }
    }

    const TLS: &str = "--etcd-ca ca --etcd-cert cert --etcd-key key";

    #[test]
    fn each_mode_has_its_arguments() {
        let (plain, tls) =
            ("--etcd-endpoints http://a:2379,http://[fd00::1]:2379", "--etcd-endpoints https://a:2379");
        let srv = "--etcd-discovery-srv etcd.mesos";
        let peers = "--etcd-peer-urls http://a:2380,https://b:2380";
        for (line, expected) in [
            (
                plain.to_owned(),
                "gateway start --listen-addr=127.0.0.1:2379 --endpoints=a:2379,[fd00::1]:2379 --retry-delay=10s",
            ),
            (
                format!("{tls} {TLS} --etcd-listen 0.0.0.0:1"),
                "gateway start --listen-addr=0.0.0.0:1 --endpoints=a:2379 --retry-delay=10s",
            ),
            (
                format!("{srv} {TLS}"),
                "gateway start --listen-addr=127.0.0.1:2379 --discovery-srv=etcd.mesos --insecure-discovery=true \
                 --retry-delay=10s",
            ),
            (
                format!("{plain} --etcd-proxy grpc-proxy --etcd-listen 0.0.0.0:1"),
                "grpc-proxy start --listen-addr=0.0.0.0:1 --endpoints=http://a:2379,http://[fd00::1]:2379",
            ),
            (
                format!("{tls} {TLS} --etcd-proxy grpc-proxy"),
                "grpc-proxy start --listen-addr=127.0.0.1:2379 --endpoints=https://a:2379 --cacert=ca --cert=cert --key=key",
            ),
            (
                format!("{srv} --etcd-proxy grpc-proxy"),
                "grpc-proxy start --listen-addr=127.0.0.1:2379 --discovery-srv=etcd.mesos --insecure-discovery=true",
            ),
            (
                format!("{srv} --etcd-ca ca --etcd-proxy grpc-proxy"),
                "grpc-proxy start --listen-addr=127.0.0.1:2379 --discovery-srv=etcd.mesos --insecure-discovery=false \
                 --cacert=ca",
            ),
            (
                format!("{plain} --etcd-peer-urls http://a:2380,http://b:2380 --etcd-proxy v2-proxy"),
                "--proxy=on --data-dir=/d --listen-client-urls=http://127.0.0.1:2379 \
                 --initial-cluster=member0=http://a:2380,member1=http://b:2380",
            ),
            (
                format!("{tls} {TLS} {peers} --etcd-proxy v2-proxy"),
                "--proxy=on --data-dir=/d --listen-client-urls=http://127.0.0.1:2379 \
                 --initial-cluster=member0=http://a:2380,member1=https://b:2380 --peer-trusted-ca-file=ca \
                 --peer-cert-file=cert --peer-key-file=key",
            ),
        ] {
            assert_eq!(of(&line).unwrap(), expected, "{line}");
        }
        let options = parsed(&format!("{srv} --etcd-proxy v2-proxy"));
        assert_eq!(
            arguments(&options, &v2(&["http://a:1", "http://b:2"])).unwrap().join(" "),
            "--proxy=on --data-dir=/d --listen-client-urls=http://127.0.0.1:2379 \
             --initial-cluster=member0=http://a:1,member1=http://b:2"
        );
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        let (plain, tls) = ("--etcd-endpoints http://a:1", "--etcd-endpoints https://a:1");
        for (line, words) in [
            (format!("{plain} --etcd-proxy direct"), "no proxy to run"),
            (format!("{plain} --etcd-proxy v2-proxy"), "give --etcd-peer-urls"),
            (
                format!("{plain} --etcd-proxy v2-proxy --etcd-peer-urls https://a:2"),
                "https://a:2 speaks TLS: --etcd-ca",
            ),
            (
                format!("{tls} {TLS} --etcd-proxy grpc-proxy --etcd-listen 0.0.0.0:2379"),
                "0.0.0.0:2379 is open to other hosts",
            ),
            (
                format!(
                    "{tls} {TLS} --etcd-proxy v2-proxy --etcd-peer-urls http://a:2 --etcd-listen 10.0.0.1:1"
                ),
                "10.0.0.1:1 is open to other hosts",
            ),
            (format!("{plain},https://b:1"), "both http:// and https://"),
        ] {
            let failure = of(&line).unwrap_err();
            assert_eq!(failure.exit(), Exit::Unsuitable, "{line}");
            assert!(failure.to_string().contains(words), "{line}: {failure}");
        }
    }

    proptest! {
        /// Whatever is given: every member is named once, nothing is an argument of its own that was not meant as one, and
        /// no key but the one that is configured is shown to anyone.
        #[test]
        fn arguments_are_flags_with_the_members_that_were_given(
            hosts in proptest::collection::vec("[a-z][a-z0-9-]{0,8}[a-z0-9]", 1..5),
            port in 1_u16..,
            mode in 0_usize..3,
            files in proptest::option::of(any::<bool>()),
            srv in any::<bool>(),
        ) {
            let scheme = if files.is_some() { "https" } else { "http" };
            let members: Vec<String> = hosts.iter().map(|host| format!("{scheme}://{host}:{port}")).collect();
            let mode = ["gateway", "grpc-proxy", "v2-proxy"][mode];
            let place = if srv {
                format!("--etcd-discovery-srv {}.example", hosts[0])
            } else {
                format!("--etcd-endpoints {0} --etcd-peer-urls {0}", members.join(","))
            };
            let tls = match files {
                None => "",
                Some(false) => "--etcd-ca /ca.pem",
                Some(true) => "--etcd-ca /ca.pem --etcd-cert /cert.pem --etcd-key /key.pem",
            };
            let line = format!("{place} {tls} --etcd-proxy {mode}");
            let name = format!("{}.example", hosts[0]);
            let found = format!("{scheme}://{name}:2380");
            let arguments = arguments(&parsed(&line), &v2(&[found.as_str()][usize::from(!srv)..])).unwrap();
            let first = if mode == "v2-proxy" { 0 } else { 2 };
            prop_assert!(arguments[first..].iter().all(|it| it.starts_with("--") && it.contains('=')), "{arguments:?}");
            let flags: Vec<&str> = arguments[first..].iter().filter_map(|it| Some(it.split_once('=')?.0)).collect();
            let mut once = flags.clone();
            once.sort_unstable();
            once.dedup();
            prop_assert_eq!(once.len(), flags.len(), "{:?}", arguments);
            let text = arguments.join(" ");
            if srv {
                prop_assert!(text.contains(&name));
            } else {
                for host in &hosts {
                    let authority = format!("{host}:{port}");
                    prop_assert!(text.contains(&authority), "{} {}", host, text);
                }
            }
            let knows_key = text.contains("/key.pem");
            prop_assert_eq!(knows_key, files == Some(true) && mode != "gateway");
        }
    }
}
