//! `etcd.*`: which etcd Calico keeps its data in, and how the hosts reach it.

use std::net::SocketAddr;

use super::reader::{Reader, parse};
use super::{Artifact, DockerStore, FileSource, Profile};

/// `etcd.*`
#[derive(Debug, Clone)]
pub struct Etcd {
    /// The upstream; none when it is found by SRV records.
    pub endpoints: Vec<String>,
    /// The name whose SRV records tell the upstream.
    pub discovery_srv: Option<String>,
    /// The members' peer URLs, which `v2-proxy` needs where there is no such name.
    pub peer_urls: Vec<String>,
    /// How TLS is spoken with them; none: without.
    pub tls: Option<Tls>,
    /// How hosts reach it.
    pub proxy: Proxy,
    /// Where the proxy listens.
    pub listen: SocketAddr,
}

impl Etcd {
    /// Where hosts reach it: their proxy, which passes TLS through, or speaks it for them; or the word for none.
    pub(super) fn reached_at(&self) -> String {
        match &self.proxy {
            Proxy::Direct => self.proxy.word().to_owned(),
            Proxy::Local(ProxyMode::Gateway, _) if self.tls.is_some() => format!("https://{}", self.listen),
            Proxy::Local(..) => format!("http://{}", self.listen),
        }
    }
}

/// TLS towards etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificates of the authorities that are trusted.
    pub ca: FileSource,
    /// The hosts' certificate and its key, where etcd wants them.
    pub identity: Option<(FileSource, FileSource)>,
}

/// How hosts reach etcd.
#[derive(Debug, Clone)]
pub enum Proxy {
    /// Through a proxy on each host, which is this program in this mode.
    Local(ProxyMode, Artifact),
    /// Without a proxy.
    Direct,
}

impl Proxy {
    /// The option's word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Local(mode, _) => mode.word(),
            Self::Direct => "direct",
        }
    }
}

/// What kind of proxy it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyMode {
    /// `etcd gateway`: TCP passed through.
    Gateway,
    /// `etcd grpc-proxy`: the v3 API only.
    Grpc,
    /// `etcd --proxy on`: the v2 API only.
    V2,
}

impl ProxyMode {
    fn word(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Grpc => "grpc-proxy",
            Self::V2 => "v2-proxy",
        }
    }
}

/// Where the upstream is: [`Etcd::endpoints`] and [`Etcd::discovery_srv`], of which one is given.
pub(super) fn place(reader: &mut Reader) -> (Vec<String>, Option<String>) {
    let (endpoints, srv) = ("etcd.endpoints", "etcd.discovery-srv");
    let name = reader.optional(srv, dns_name);
    if reader.is_given(srv) {
        if reader.is_given(endpoints) {
            reader.fault(srv, format!("is given beside {endpoints}: give one of them"));
        }
        return (reader.list(endpoints, parse::endpoint), name);
    }
    let missing =
        "must name the etcd that Calico is to use, like http://10.0.0.1:2379; or give etcd.discovery-srv";
    (reader.required_list(endpoints, missing, parse::endpoint), None)
}

pub(super) fn read(reader: &mut Reader, (endpoints, discovery_srv): (Vec<String>, Option<String>)) -> Etcd {
    let modes = [
        ("gateway", Some(ProxyMode::Gateway)),
        ("grpc-proxy", Some(ProxyMode::Grpc)),
        ("v2-proxy", Some(ProxyMode::V2)),
        ("direct", None),
    ];
    let mode = reader.required("etcd.proxy", Some(ProxyMode::Gateway), |value| parse::one_of(value, &modes));
    let no_artifact = Artifact { uri: String::new(), sha256: String::new() };
    let proxy = match mode {
        Some(mode) => Proxy::Local(mode, reader.required("artifacts.etcd", no_artifact, Artifact::parse)),
        None => Proxy::Direct,
    };
    let listen = SocketAddr::from(([127, 0, 0, 1], 2379));
    let listen = reader.required("etcd.listen", listen, parse::address);
    let peer_urls = reader.list("etcd.peer-urls", parse::endpoint);
    let tls = tls(reader, &endpoints);
    Etcd { endpoints, discovery_srv, peer_urls, tls, proxy, listen }
}

/// The files go together, and with the endpoints.
fn tls(reader: &mut Reader, endpoints: &[String]) -> Option<Tls> {
    const OPTIONS: [&str; 3] = ["etcd.ca", "etcd.cert", "etcd.key"];
    let [has_ca, has_cert, has_key] = OPTIONS.map(|name| reader.is_given(name));
    let [ca, cert, key] = OPTIONS.map(|name| reader.optional(name, FileSource::parse));
    match (has_cert, has_key) {
        (true, false) => reader.fault("etcd.cert", "etcd.key must be given with it"),
        (false, true) => reader.fault("etcd.key", "etcd.cert must be given with it"),
        _ => {}
    }
    let of = |scheme: &str| endpoints.iter().find(|endpoint| endpoint.starts_with(scheme));
    match (of("http://"), of("https://")) {
        (Some(_), Some(_)) => {
            reader.fault("etcd.endpoints", "has both http:// and https://: all must be the same");
            return None;
        }
        (Some(_), None) if ca.is_some() => {
            reader.fault("etcd.ca", "is for an etcd with TLS: etcd.endpoints must begin with https://");
            return None;
        }
        (None, Some(endpoint)) if !has_ca => reader.fault(
            "etcd.ca",
            format!("must be given: {endpoint} speaks TLS, and this says which authorities are trusted"),
        ),
        _ if has_cert && has_key && !has_ca => {
            reader.fault("etcd.ca", "must be given with etcd.cert and etcd.key");
        }
        _ => {}
    }
    Some(Tls { ca: ca?, identity: cert.zip(key) })
}

/// What cannot work together, whatever each is by itself.
pub(super) fn check(
    reader: &mut Reader,
    etcd: &Etcd,
    profile: Profile,
    docker: Option<&DockerStore>,
    has_libnetwork: bool,
) {
    let own_store = docker.map(|store| store.url.as_deref());
    let docker_through_it = match own_store {
        None => false,
        Some(None) => true,
        Some(Some(url)) => url.contains(&etcd.listen.to_string()),
    };
    let proxy = "etcd.proxy";
    match &etcd.proxy {
        Proxy::Local(ProxyMode::Grpc, _) => {
            if profile == Profile::V26 {
                reader.fault(
                    proxy,
                    "serves the v3 API only, and node.profile = v2.6 needs v2: give gateway, v2-proxy or direct",
                );
            }
            if docker_through_it {
                reader.fault(
                    proxy,
                    "serves the v3 API only, and Docker's cluster store needs v2: give gateway or direct, a \
                     docker.cluster-store that does not lead through it, or docker.enable = false",
                );
            }
        }
        Proxy::Local(ProxyMode::V2, _) => {
            if profile == Profile::V3 {
                reader.fault(
                    proxy,
                    "serves the v2 API only, and node.profile = v3 needs v3: give gateway, grpc-proxy or direct",
                );
            }
            if etcd.peer_urls.is_empty() && etcd.discovery_srv.is_none() && !reader.is_given("etcd.peer-urls")
            {
                reader.fault(
                    "etcd.peer-urls",
                    "must be given for etcd.proxy = v2-proxy, like http://10.0.0.1:2380; or give etcd.discovery-srv",
                );
            }
            if etcd.tls.is_none()
                && let Some(url) = etcd.peer_urls.iter().find(|url| url.starts_with("https://"))
            {
                reader.fault("etcd.peer-urls", format!("{url} speaks TLS: etcd.ca must be given"));
            }
        }
        Proxy::Local(ProxyMode::Gateway, _) => {}
        Proxy::Direct => direct(reader, etcd, profile, own_store == Some(None), has_libnetwork),
    }
    if let Proxy::Local(mode @ (ProxyMode::Grpc | ProxyMode::V2), _) = &etcd.proxy
        && etcd.tls.is_some()
        && !etcd.listen.ip().is_loopback()
    {
        let problem = format!(
            "is open to other hosts, and {} speaks TLS with etcd for all who reach it: give a loopback address, or \
             etcd.proxy = gateway",
            mode.word()
        );
        reader.fault("etcd.listen", problem);
    }
    // Docker speaks TLS when it has all three files, and otherwise plain HTTP without a word.
    let reaches_tls = matches!(etcd.proxy, Proxy::Local(ProxyMode::Gateway, _) | Proxy::Direct);
    if reaches_tls
        && own_store == Some(None)
        && let Some(Tls { identity: None, .. }) = &etcd.tls
        && docker.is_some_and(|store| store.opts.is_none())
    {
        reader.fault(
            "etcd.cert",
            "and etcd.key must be given: Docker speaks TLS with its cluster store only when it has a certificate; or give \
             docker.cluster-store, or docker.enable = false",
        );
    }
}

/// Without a proxy, each client looks for SRV records itself: Calico does so from 3.8 on, and nothing else.
fn direct(reader: &mut Reader, etcd: &Etcd, profile: Profile, docker: bool, has_libnetwork: bool) {
    if etcd.discovery_srv.is_none() {
        return;
    }
    for (needs, who) in [
        (profile == Profile::V26, "node.profile = v2.6"),
        (docker, "docker.enable without docker.cluster-store"),
        (has_libnetwork, "libnetwork.enable"),
    ] {
        if needs {
            reader.fault(
                "etcd.discovery-srv",
                format!("with etcd.proxy = direct it does not serve {who}: give another etcd.proxy, or etcd.endpoints"),
            );
        }
    }
}

fn dns_name(value: &str) -> Result<String, String> {
    let name = value.strip_suffix('.').unwrap_or(value);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| plain(c) || c == '-')
            && label.starts_with(plain)
            && label.ends_with(plain)
    };
    if name.len() <= 253 && name.split('.').all(label) {
        return Ok(name.to_owned());
    }
    Err("must be a DNS name, like etcd.mesos".to_owned())
}
