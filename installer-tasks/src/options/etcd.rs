//! `--etcd-*`: which etcd, how this host reaches it, and what clients on it are told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use clap::Args;

use super::join;
use crate::exit::{Failure, Result};
use crate::values::{DnsName, Endpoint, EtcdProxy, PinnedFile, Scheme, socket};

/// The etcd itself: its members or the name that tells them, and how TLS is spoken with them.
#[derive(Debug, Clone, Args)]
pub struct UpstreamOptions {
    /// The etcd members, comma-separated: http://HOST:PORT or https://HOST:PORT.
    #[arg(
        long = "etcd-endpoints",
        env = "CALICO_ETCD_ENDPOINTS",
        value_delimiter = ',',
        required_unless_present = "discovery_srv"
    )]
    pub endpoints: Vec<Endpoint>,
    /// Instead of them, the DNS name whose SRV records tell them: _etcd-client._tcp, or _etcd-client-ssl._tcp with
    /// --etcd-ca; for v2-proxy _etcd-server and _etcd-server-ssl.
    #[arg(long = "etcd-discovery-srv", env = "CALICO_ETCD_DISCOVERY_SRV", value_name = "NAME")]
    pub discovery_srv: Option<DnsName>,
    /// With what TLS is spoken.
    #[command(flatten)]
    pub tls: EtcdTlsOptions,
}

/// The files of TLS towards etcd: PATH, or PATH#sha256=HEX for what it must be. A relative path is a file of the task's
/// sandbox, which is installed (mode 0600) where something on the host needs it; an absolute one is used where it is.
#[derive(Debug, Clone, Default, Args)]
pub struct EtcdTlsOptions {
    /// The certificates of the authorities that the members' certificates are of, in PEM.
    #[arg(long = "etcd-ca", env = "CALICO_ETCD_CA", value_name = "PATH")]
    pub ca: Option<PinnedFile>,
    /// This host's certificate, for members that want one.
    #[arg(long = "etcd-cert", env = "CALICO_ETCD_CERT", value_name = "PATH")]
    pub cert: Option<PinnedFile>,
    /// Its private key.
    #[arg(long = "etcd-key", env = "CALICO_ETCD_KEY", value_name = "PATH")]
    pub key: Option<PinnedFile>,
}

/// TLS towards etcd, whose files go together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdTls {
    /// The certificates of the authorities.
    pub ca: PinnedFile,
    /// The client's certificate and key, where members want them.
    pub identity: Option<(PinnedFile, PinnedFile)>,
}

impl EtcdTls {
    /// All its files, under the names by which they are known.
    pub fn files(&self) -> impl Iterator<Item = (EtcdTlsFile, &PinnedFile)> {
        let identity = self.identity.iter();
        let identity = identity.flat_map(|(cert, key)| [(EtcdTlsFile::Cert, cert), (EtcdTlsFile::Key, key)]);
        std::iter::once((EtcdTlsFile::Ca, &self.ca)).chain(identity)
    }
}

/// One of the files of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EtcdTlsFile {
    /// The certificates of the authorities.
    Ca,
    /// The client's certificate.
    Cert,
    /// The client's key.
    Key,
}

impl EtcdTlsFile {
    /// The option that gives it.
    pub fn option(self) -> &'static str {
        match self {
            Self::Ca => "--etcd-ca",
            Self::Cert => "--etcd-cert",
            Self::Key => "--etcd-key",
        }
    }

    /// What it is called where we put it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ca => "ca.pem",
            Self::Cert => "cert.pem",
            Self::Key => "key.pem",
        }
    }

    /// The variable in which Calico's programs are told of it.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Ca => "ETCD_CA_CERT_FILE",
            Self::Cert => "ETCD_CERT_FILE",
            Self::Key => "ETCD_KEY_FILE",
        }
    }
}

/// Where etcd is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EtcdPlace {
    /// At any of these.
    Endpoints(Vec<Endpoint>),
    /// Where the SRV records of this name say.
    Srv(DnsName),
}

/// Etcd as a client is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdClient {
    /// Where.
    pub place: EtcdPlace,
    /// How TLS is spoken; `None`: without.
    pub tls: Option<EtcdTls>,
}

impl EtcdClient {
    /// The variable in which Calico's programs (3.8 and later, for SRV) are told where it is.
    pub fn variable(&self) -> (&'static str, String) {
        match &self.place {
            EtcdPlace::Endpoints(endpoints) => ("ETCD_ENDPOINTS", join(endpoints)),
            EtcdPlace::Srv(name) => ("ETCD_DISCOVERY_SRV", name.to_string()),
        }
    }

    /// Its endpoints; for a client that cannot look for SRV records.
    pub fn endpoints(&self) -> Result<&[Endpoint]> {
        match &self.place {
            EtcdPlace::Endpoints(endpoints) => Ok(endpoints),
            EtcdPlace::Srv(_) => Err(Failure::unsuitable(
                "--etcd-discovery-srv with --etcd-proxy direct serves only what looks for SRV records itself, which this \
                 does not: give --etcd-endpoints in its place, or another --etcd-proxy",
            )),
        }
    }
}

impl UpstreamOptions {
    /// How TLS is spoken with the members; `None`: without.
    pub fn tls(&self) -> Result<Option<EtcdTls>> {
        let EtcdTlsOptions { ca, cert, key } = &self.tls;
        if !self.endpoints.is_empty() && self.discovery_srv.is_some() {
            return Err(Failure::unsuitable(
                "--etcd-endpoints and --etcd-discovery-srv are both given: give one of them",
            ));
        }
        let of = |scheme| self.endpoints.iter().find(move |endpoint| endpoint.scheme == scheme);
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (None, None) => None,
            (Some(_), None) => {
                return Err(Failure::unsuitable("--etcd-cert is given without its --etcd-key"));
            }
            (None, Some(_)) => {
                return Err(Failure::unsuitable("--etcd-key is given without its --etcd-cert"));
            }
        };
        if let (Some(plain), Some(_)) = (of(Scheme::Http), of(Scheme::Https)) {
            return Err(Failure::unsuitable(format!(
                "--etcd-endpoints has both http:// and https:// members (such as {plain}): all must be the same"
            )));
        }
        match (ca, of(Scheme::Http), of(Scheme::Https)) {
            (Some(_), Some(plain), _) => {
                Err(Failure::unsuitable(format!("--etcd-ca is for members with TLS, and {plain} has none")))
            }
            (None, _, Some(tls)) => Err(Failure::unsuitable(format!(
                "{tls} speaks TLS: --etcd-ca must give the certificates of the authorities that are trusted"
            ))),
            (None, ..) if identity.is_some() => {
                Err(Failure::unsuitable("--etcd-cert and --etcd-key are given without --etcd-ca"))
            }
            (ca, ..) => Ok(ca.clone().map(|ca| EtcdTls { ca, identity })),
        }
    }

    /// Etcd for who does not go through the proxy.
    pub fn client(&self) -> Result<EtcdClient> {
        let tls = self.tls()?;
        let place = match &self.discovery_srv {
            Some(name) => EtcdPlace::Srv(name.clone()),
            None => EtcdPlace::Endpoints(self.endpoints.clone()),
        };
        Ok(EtcdClient { place, tls })
    }
}

/// Which etcd, and how the host reaches it.
#[derive(Debug, Clone, Args)]
pub struct EtcdOptions {
    /// The etcd itself.
    #[command(flatten)]
    pub upstream: UpstreamOptions,
    /// The members' peer URLs, comma-separated, which v2-proxy needs where there is no --etcd-discovery-srv.
    #[arg(long = "etcd-peer-urls", env = "CALICO_ETCD_PEER_URLS", value_delimiter = ',', value_name = "URL")]
    pub peer_urls: Vec<Endpoint>,
    /// How clients on this host reach them.
    #[arg(long = "etcd-proxy", env = "CALICO_ETCD_PROXY", value_enum, default_value = "gateway")]
    pub proxy: EtcdProxy,
    /// Where the proxy listens.
    #[arg(
        long = "etcd-listen",
        env = "CALICO_ETCD_LISTEN",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:2379",
        value_parser = socket
    )]
    pub listen: SocketAddr,
}

/// Which of etcd's APIs a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EtcdApi {
    /// Keys over HTTP: Docker, and Calico up to v2.
    V2,
    /// gRPC: Calico from v3 on.
    V3,
}

impl EtcdOptions {
    /// Etcd as clients on this host are told of it: the proxy, or the members themselves. Where the proxy speaks TLS
    /// itself (grpc-proxy, v2-proxy), its clients do not.
    pub fn client(&self) -> Result<EtcdClient> {
        let upstream = self.upstream.client()?;
        let tls = match self.proxy {
            EtcdProxy::Direct => return Ok(upstream),
            EtcdProxy::Gateway => upstream.tls,
            EtcdProxy::GrpcProxy | EtcdProxy::V2Proxy => None,
        };
        Ok(EtcdClient { place: EtcdPlace::Endpoints(vec![self.local(tls.is_some())]), tls })
    }

    /// The endpoints that clients on this host are told, for a client that cannot look for SRV records.
    pub fn for_clients(&self) -> Result<Vec<Endpoint>> {
        self.client()?.endpoints().map(<[Endpoint]>::to_vec)
    }

    /// Refuses a proxy through which `who` cannot speak the API that it needs.
    pub fn require(&self, api: EtcdApi, who: &str) -> Result<()> {
        let (serves, instead) = match (self.proxy, api) {
            (EtcdProxy::GrpcProxy, EtcdApi::V2) => ("v3", "gateway, v2-proxy or direct"),
            (EtcdProxy::V2Proxy, EtcdApi::V3) => ("v2", "gateway, grpc-proxy or direct"),
            _ => return Ok(()),
        };
        let needs = match api {
            EtcdApi::V2 => "v2",
            EtcdApi::V3 => "v3",
        };
        Err(Failure::unsuitable(format!(
            "--etcd-proxy {} serves etcd's {serves} API only, and {who} needs the {needs} API: give {instead}",
            self.proxy.name()
        )))
    }

    /// The proxy as clients on this host reach it.
    fn local(&self, tls: bool) -> Endpoint {
        let ip = match self.listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let scheme = if tls { Scheme::Https } else { Scheme::Http };
        Endpoint { scheme, host: ip.to_string(), port: self.listen.port() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned(path: &str) -> PinnedFile {
        path.parse().unwrap()
    }

    fn upstream(endpoints: &[&str], srv: Option<&str>, files: [Option<&str>; 3]) -> UpstreamOptions {
        let [ca, cert, key] = files.map(|file| file.map(pinned));
        UpstreamOptions {
            endpoints: endpoints.iter().map(|text| text.parse().unwrap()).collect(),
            discovery_srv: srv.map(|name| name.parse().unwrap()),
            tls: EtcdTlsOptions { ca, cert, key },
        }
    }

    fn etcd(upstream: UpstreamOptions, proxy: EtcdProxy, listen: &str) -> EtcdOptions {
        EtcdOptions { upstream, peer_urls: Vec::new(), proxy, listen: listen.parse().unwrap() }
    }

    const NO_FILES: [Option<&str>; 3] = [None; 3];
    const ALL_FILES: [Option<&str>; 3] = [Some("/ca"), Some("/cert"), Some("key")];

    #[test]
    fn clients_use_the_proxy_or_the_members() {
        use EtcdProxy::{Direct, Gateway, GrpcProxy, V2Proxy};
        let (members, files) = (["https://a:2379", "https://b:2379"], ALL_FILES);
        for (proxy, listen, expected, tls) in [
            (Direct, "127.0.0.1:1", "https://a:2379,https://b:2379", true),
            (Gateway, "127.0.0.1:2379", "https://127.0.0.1:2379", true),
            (Gateway, "0.0.0.0:2379", "https://127.0.0.1:2379", true),
            (Gateway, "[::]:2379", "https://[::1]:2379", true),
            (GrpcProxy, "127.0.0.1:2379", "http://127.0.0.1:2379", false),
            (V2Proxy, "127.0.0.1:2379", "http://127.0.0.1:2379", false),
        ] {
            let options = etcd(upstream(&members, None, files), proxy, listen);
            let client = options.client().unwrap();
            assert_eq!(client.variable(), ("ETCD_ENDPOINTS", expected.to_owned()), "{proxy:?}");
            assert_eq!(client.tls.is_some(), tls, "{proxy:?}");
            assert_eq!(join(&options.for_clients().unwrap()), expected);
        }
    }

    #[test]
    fn who_cannot_look_for_srv_records_goes_through_a_proxy() {
        let options = |proxy, files| etcd(upstream(&[], Some("etcd.mesos"), files), proxy, "127.0.0.1:2379");
        let direct = options(EtcdProxy::Direct, NO_FILES);
        assert_eq!(direct.client().unwrap().variable(), ("ETCD_DISCOVERY_SRV", "etcd.mesos".to_owned()));
        assert!(direct.for_clients().unwrap_err().to_string().contains("another --etcd-proxy"));
        let through = |files| join(&options(EtcdProxy::Gateway, files).for_clients().unwrap());
        assert_eq!(through(NO_FILES), "http://127.0.0.1:2379");
        assert_eq!(through(ALL_FILES), "https://127.0.0.1:2379");
    }

    #[test]
    fn files_of_tls_go_with_their_members() {
        let (ca, cert, key) = (Some("/ca"), Some("/cert"), Some("/key"));
        for (endpoints, srv, files, words) in [
            (&["http://a:1", "https://b:1"][..], None, [ca, None, None], "both http:// and https://"),
            (&["http://a:1"], None, [ca, None, None], "http://a:1 has none"),
            (&["https://a:1"], None, NO_FILES, "https://a:1 speaks TLS: --etcd-ca"),
            (&["https://a:1"], None, [ca, cert, None], "--etcd-cert is given without its --etcd-key"),
            (&["https://a:1"], None, [ca, None, key], "--etcd-key is given without its --etcd-cert"),
            (&["http://a:1"], None, [None, cert, key], "without --etcd-ca"),
            (&[], Some("etcd.mesos"), [None, cert, key], "without --etcd-ca"),
            (&["https://a:1"], Some("etcd.mesos"), [ca, None, None], "give one of them"),
        ] {
            let failure = upstream(endpoints, srv, files).tls().unwrap_err().to_string();
            assert!(failure.contains(words), "{endpoints:?} {files:?}: {failure}");
        }
        let files = |files| {
            let tls = upstream(&["https://a:1"], None, files).tls().unwrap().unwrap();
            tls.files().map(|(what, file)| (what.variable(), file.to_string())).collect::<Vec<_>>()
        };
        let all = [("ETCD_CA_CERT_FILE", "/ca"), ("ETCD_CERT_FILE", "/cert"), ("ETCD_KEY_FILE", "key")];
        let all = all.map(|(name, path)| (name, path.to_owned()));
        assert_eq!(files(ALL_FILES), all);
        assert_eq!(files([ca, None, None]), all[..1]);
        assert_eq!(upstream(&["http://a:1"], None, NO_FILES).tls().unwrap(), None);
    }

    #[test]
    fn a_proxy_serves_the_apis_that_it_has() {
        use EtcdApi::{V2, V3};
        use EtcdProxy::{Direct, Gateway, GrpcProxy, V2Proxy};
        let require = |proxy, api| {
            let options = etcd(upstream(&["http://a:1"], None, NO_FILES), proxy, "127.0.0.1:2379");
            options.require(api, "Docker").map_err(|failure| failure.to_string())
        };
        for (proxy, api) in
            [(Gateway, V2), (Gateway, V3), (Direct, V2), (Direct, V3), (GrpcProxy, V3), (V2Proxy, V2)]
        {
            assert_eq!(require(proxy, api), Ok(()), "{proxy:?} {api:?}");
        }
        assert_eq!(
            require(GrpcProxy, V2).unwrap_err(),
            "--etcd-proxy grpc-proxy serves etcd's v3 API only, and Docker needs the v2 API: give gateway, v2-proxy or direct"
        );
        assert_eq!(
            require(V2Proxy, V3).unwrap_err(),
            "--etcd-proxy v2-proxy serves etcd's v2 API only, and Docker needs the v3 API: give gateway, grpc-proxy or direct"
        );
    }
}
