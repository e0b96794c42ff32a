//! The cluster store that Docker is to have, from the options.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::exit::{Failure, Result};
use crate::values::{Endpoint, Scheme, ValueError};

/// How often Docker writes that it is there, in seconds; Docker's own default too.
const HEARTBEAT: u64 = 20;
/// A cluster of this many agents, all writing and each listing all others at every change, is as much as Docker's
/// discovery bears with [`HEARTBEAT`].
const AGENTS_AT_HEARTBEAT: u64 = 500;
/// How many heartbeats may be missed; Docker's own default too.
const TTL_HEARTBEATS: u64 = 3;

const HEARTBEAT_OPTION: &str = "discovery.heartbeat";
const TTL_OPTION: &str = "discovery.ttl";
/// The files of TLS: Docker uses them when it has all three, and otherwise speaks plain HTTP without a word.
pub const TLS_OPTIONS: [&str; 3] = ["kv.cacertfile", "kv.certfile", "kv.keyfile"];

/// What kind of store it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// etcd, of which Docker uses the v2 API.
    Etcd,
    /// ZooKeeper.
    Zk,
}

/// `etcd://HOST:PORT[,HOST:PORT][/PREFIX]`, or `zk://…`, as Docker takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreUrl {
    /// What it is.
    pub kind: StoreKind,
    /// Its servers, `host:port`.
    pub servers: Vec<String>,
    /// What stands before all keys; empty, or without slashes at its ends.
    pub prefix: String,
}

impl StoreUrl {
    /// The store in etcd at these endpoints.
    pub fn etcd(endpoints: &[Endpoint]) -> Self {
        let servers = endpoints.iter().map(Endpoint::authority).collect();
        Self { kind: StoreKind::Etcd, servers, prefix: String::new() }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            StoreKind::Etcd => "etcd",
            StoreKind::Zk => "zk",
        };
        write!(f, "{kind}://{}", self.servers.join(","))?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

impl FromStr for StoreUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (kind, rest) = if let Some(rest) = text.strip_prefix("etcd://") {
            (StoreKind::Etcd, rest)
        } else if let Some(rest) = text.strip_prefix("zk://") {
            (StoreKind::Zk, rest)
        } else {
            return Err(ValueError::ClusterStore("it does not begin with etcd:// or zk://"));
        };
        let (servers, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let server = |server: &str| {
            let endpoint: Endpoint = format!("http://{server}")
                .parse()
                .map_err(|_| ValueError::ClusterStore("each server must be HOST:PORT"))?;
            Ok(endpoint.authority())
        };
        let servers = servers.split(',').map(server).collect::<Result<_, _>>()?;
        Ok(Self { kind, servers, prefix: prefix.trim_matches('/').to_owned() })
    }
}

/// One of `--docker-cluster-store-opts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOption {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl FromStr for StoreOption {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() && !value.trim().is_empty() => {
                Ok(Self { name: name.trim().to_owned(), value: value.trim().to_owned() })
            }
            _ => Err(ValueError::StoreOption),
        }
    }
}

/// The store as Docker is to have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Where.
    pub store: StoreUrl,
    /// Under which address Docker is known there.
    pub advertise: SocketAddr,
    /// Options, by name.
    pub options: BTreeMap<String, String>,
}

impl Wanted {
    /// Puts it together; `given` goes before what is derived.
    pub fn new(
        store: StoreUrl,
        advertise: SocketAddr,
        given: &[StoreOption],
        max_agents: u64,
    ) -> Result<Self> {
        let mut options: BTreeMap<String, String> = BTreeMap::new();
        for StoreOption { name, value } in given {
            if options.insert(name.clone(), value.clone()).is_some() {
                return Err(Failure::unsuitable(format!("--docker-cluster-store-opts has {name} twice")));
            }
        }
        let seconds = |name| match options.get(name).map(|text| (text, text.parse::<u64>())) {
            None => Ok(None),
            Some((_, Ok(seconds))) if seconds > 0 => Ok(Some(seconds)),
            Some((text, _)) => Err(Failure::unsuitable(format!(
                "--docker-cluster-store-opts: {name} is {text}, and must be a number of seconds above 0"
            ))),
        };
        let (heartbeat, ttl) = match (seconds(HEARTBEAT_OPTION)?, seconds(TTL_OPTION)?) {
            (Some(heartbeat), Some(ttl)) => (heartbeat, ttl),
            (Some(heartbeat), None) => (heartbeat, heartbeat * TTL_HEARTBEATS),
            (None, Some(ttl)) => ((ttl / TTL_HEARTBEATS).max(1), ttl),
            (None, None) => {
                let heartbeat = heartbeat(max_agents);
                (heartbeat, heartbeat * TTL_HEARTBEATS)
            }
        };
        if ttl <= heartbeat {
            return Err(Failure::unsuitable(format!(
                "--docker-cluster-store-opts: {TTL_OPTION} ({ttl} s) must be above {HEARTBEAT_OPTION} ({heartbeat} s)"
            )));
        }
        options.insert(HEARTBEAT_OPTION.to_owned(), heartbeat.to_string());
        options.insert(TTL_OPTION.to_owned(), ttl.to_string());
        let missing: Vec<&str> =
            TLS_OPTIONS.into_iter().filter(|name| !options.contains_key(*name)).collect();
        if !missing.is_empty() && missing.len() < TLS_OPTIONS.len() {
            return Err(Failure::unsuitable(format!(
                "--docker-cluster-store-opts lacks {}: Docker speaks TLS only when it has all of {}",
                missing.join(" and "),
                TLS_OPTIONS.join(", ")
            )));
        }
        Ok(Self { store, advertise, options })
    }

    /// Refuses what would have Docker speak otherwise than the members do.
    pub fn check_tls(&self, members: &[Endpoint]) -> Result<()> {
        let tls = !self.tls_files().is_empty();
        match members.iter().find(|member| (member.scheme == Scheme::Https) != tls) {
            None => Ok(()),
            Some(member) if tls => Err(Failure::unsuitable(format!(
                "--docker-cluster-store-opts has the files of TLS, and {member} does not speak TLS"
            ))),
            Some(member) => Err(Failure::unsuitable(format!(
                "{member} speaks TLS, so Docker needs {} in --docker-cluster-store-opts",
                TLS_OPTIONS.join(", ")
            ))),
        }
    }

    /// The files of TLS, each with its option; none when there is no TLS.
    pub fn tls_files(&self) -> Vec<(&'static str, PathBuf)> {
        let file = |name| Some((name, PathBuf::from(self.options.get(name)?)));
        TLS_OPTIONS.into_iter().filter_map(file).collect()
    }

    /// How often Docker writes that it is there, and for how long that holds, in seconds.
    pub fn ttl(&self) -> u64 {
        self.options.get(TTL_OPTION).and_then(|text| text.parse().ok()).unwrap_or(HEARTBEAT * TTL_HEARTBEATS)
    }

    /// The key that Docker keeps for itself in the store.
    pub fn node_key(&self) -> String {
        self.key(&format!("docker/nodes/{}", self.advertise))
    }

    /// The key below which Docker keeps networks of the whole cluster, each by its ID.
    pub fn networks_key(&self) -> String {
        self.key("docker/network/v1.0/network")
    }

    fn key(&self, key: &str) -> String {
        if self.store.prefix.is_empty() { key.to_owned() } else { format!("{}/{key}", self.store.prefix) }
    }
}

/// The load grows with the square of the agents: from [`AGENTS_AT_HEARTBEAT`] on, the heartbeat does.
fn heartbeat(agents: u64) -> u64 {
    let per_second = AGENTS_AT_HEARTBEAT * AGENTS_AT_HEARTBEAT / HEARTBEAT;
    agents.saturating_mul(agents).div_ceil(per_second).max(HEARTBEAT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::daemon_json::DaemonJson;
    use super::*;

    fn wanted(given: &[&str], agents: u64) -> Result<Wanted> {
        let given: Vec<StoreOption> = given.iter().map(|text| text.parse().unwrap()).collect();
        Wanted::new("etcd://h:1".parse().unwrap(), "10.0.0.1:2376".parse().unwrap(), &given, agents)
    }

    #[test]
    fn stores_keep_what_they_were() {
        for text in
            ["etcd://10.0.0.1:2379", "etcd://a:1,b:2", "zk://a:2181,[fd00::1]:2181/docker", "etcd://a:1/x/y"]
        {
            assert_eq!(text.parse::<StoreUrl>().unwrap().to_string(), text);
        }
        for text in ["consul://a:1", "http://a:1", "etcd://", "etcd://a", "etcd://a:1,", "etcd://a:0", "a:1"]
        {
            assert!(text.parse::<StoreUrl>().is_err(), "{text}");
        }
        for text in ["a", "=b", "a=", ""] {
            assert!(text.parse::<StoreOption>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_heartbeat_grows_with_the_square_of_the_agents() {
        for (agents, expected) in [(0, 20), (3, 20), (500, 20), (501, 21), (1000, 80), (5000, 2000)] {
            assert_eq!(heartbeat(agents), expected, "{agents}");
        }
        let wanted = wanted(&[], 1000).unwrap();
        assert_eq!((wanted.options["discovery.heartbeat"].as_str(), wanted.ttl()), ("80", 240));
    }

    #[test]
    fn given_options_win() {
        let both = |given: &[&str]| {
            let wanted = wanted(given, 3).unwrap();
            (wanted.options["discovery.heartbeat"].clone(), wanted.options["discovery.ttl"].clone())
        };
        assert_eq!(both(&["discovery.heartbeat=7"]), ("7".into(), "21".into()));
        assert_eq!(both(&["discovery.ttl=30"]), ("10".into(), "30".into()));
        assert_eq!(both(&["discovery.ttl=8", "discovery.heartbeat=7"]), ("7".into(), "8".into()));
        for (given, word) in [
            (&["discovery.ttl=7", "discovery.heartbeat=7"][..], "above"),
            (&["discovery.ttl=1"], "above"),
            (&["discovery.ttl=x"], "seconds"),
            (&["discovery.ttl=0"], "seconds"),
            (&["a=1", "a=1"], "twice"),
            (&["kv.certfile=/a"], "kv.cacertfile and kv.keyfile"),
        ] {
            let message = wanted(given, 3).unwrap_err().to_string();
            assert!(message.contains(word), "{given:?}: {message}");
        }
    }

    /// Options as operators may give them: times that fit and that do not, files of TLS, anything else, some twice.
    fn store_options() -> impl Strategy<Value = Vec<StoreOption>> {
        let time = (prop::sample::select(&[HEARTBEAT_OPTION, TTL_OPTION][..]), "0|[1-9][0-9]{0,3}");
        let file = (prop::sample::select(&TLS_OPTIONS[..]), "/[a-z]{1,9}");
        let other = ("kv\\.[a-z]{1,5}", "[ -~&&[^ ,]]{1,9}");
        let owned = |(name, value): (&str, String)| StoreOption { name: name.to_owned(), value };
        let one = prop_oneof![
            time.prop_map(owned),
            file.prop_map(owned),
            other.prop_map(|(name, value)| StoreOption { name, value }),
        ];
        prop::collection::vec(one, 0..7)
    }

    proptest! {
        #[test]
        fn every_option_lands_in_the_file_as_it_was_given_or_is_refused_by_name(
            given in store_options(),
            agents in 1_u64..100_000,
            port in 1_u16..,
        ) {
            let (store, advertise) = (format!("etcd://h:{port}"), format!("10.0.0.1:{port}"));
            let wanted = Wanted::new(store.parse().unwrap(), advertise.parse().unwrap(), &given, agents);
            let of = |name: &str| given.iter().find(|option| option.name == name).map(|option| option.value.clone());
            let files = TLS_OPTIONS.iter().filter(|name| of(name).is_some()).count();
            let wanted = match wanted {
                Ok(wanted) => wanted,
                Err(failure) => {
                    let said = failure.to_string();
                    prop_assert!(said.contains("--docker-cluster-store-opts"), "{}", said);
                    let named = given.iter().any(|option| said.contains(&option.name));
                    prop_assert!(named || files > 0 && said.contains("lacks"), "{}: {:?}", said, given);
                    return Ok(());
                }
            };
            prop_assert!(files == 0 || files == TLS_OPTIONS.len(), "{:?}", given);
            let document = DaemonJson::parse(None).unwrap().with_store(&wanted);
            let document: serde_json::Value = serde_json::from_str(document.text()).unwrap();
            prop_assert_eq!(document["cluster-store"].as_str(), Some(store.as_str()));
            prop_assert_eq!(document["cluster-advertise"].as_str(), Some(advertise.as_str()));
            let options = document["cluster-store-opts"].as_object().unwrap();
            // Each is there as text, which is all that Docker takes, and nothing but the times besides.
            for option in &given {
                prop_assert_eq!(options[&option.name].as_str(), Some(option.value.as_str()));
            }
            let seconds = |name: &str| options[name].as_str().unwrap().parse::<u64>().unwrap();
            prop_assert!(0 < seconds(HEARTBEAT_OPTION) && seconds(HEARTBEAT_OPTION) < seconds(TTL_OPTION));
            let known = |name: &String| of(name).is_some() || [HEARTBEAT_OPTION, TTL_OPTION].contains(&name.as_str());
            prop_assert!(options.keys().all(known), "{:?}", options);
        }
    }

    #[test]
    fn tls_is_what_the_members_speak() {
        let files = ["kv.cacertfile=/ca", "kv.certfile=/cert", "kv.keyfile=/key"];
        let (plain, tls) = (wanted(&[], 3).unwrap(), wanted(&files, 3).unwrap());
        let members = |text: &str| [text.parse::<Endpoint>().unwrap()];
        assert!(plain.check_tls(&members("http://a:1")).is_ok());
        assert!(tls.check_tls(&members("https://a:1")).is_ok());
        assert!(plain.check_tls(&members("https://a:1")).unwrap_err().to_string().contains("kv.cacertfile"));
        assert!(
            tls.check_tls(&members("http://a:1")).unwrap_err().to_string().contains("does not speak TLS")
        );
        assert_eq!(tls.tls_files().len(), 3);
    }

    #[test]
    fn keys_have_the_store_s_prefix() {
        let mut wanted = wanted(&[], 3).unwrap();
        assert_eq!(wanted.node_key(), "docker/nodes/10.0.0.1:2376");
        wanted.store.prefix = "a/b".into();
        assert_eq!(wanted.networks_key(), "a/b/docker/network/v1.0/network");
    }
}
