//! Where state is kept: `service.state` and the files for TLS that go with it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use webpki_roots::TLS_SERVER_ROOTS;

use super::absolute;
use super::mesos::{certificates, file};
use super::reader::{Reader, parse};

const CA: &str = "service.state-ca-file";
const CERTIFICATE: &str = "service.state-cert-file";
const KEY: &str = "service.state-key-file";
/// Where state is in an etcd when nothing else is said.
const PREFIX: &str = "/calico-dcos";

/// Where state is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateLocation {
    /// In a file of this machine.
    File(PathBuf),
    /// In etcd.
    Etcd(EtcdLocation),
}

/// Where in which etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdLocation {
    /// `host:port` of its members.
    pub members: Vec<String>,
    /// The user and the password, where it wants them.
    pub user: Option<(String, String)>,
    /// TLS; none: it is reached without.
    pub tls: Option<EtcdTls>,
    /// Begins with `/`; below it, `service.name` is a part of each key.
    pub prefix: String,
}

/// TLS towards etcd.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EtcdTls {
    /// The authorities that its members' certificates may be of, in PEM; none: the public ones.
    pub ca: Option<String>,
    /// Our certificate, with those between it and its authority, and its key, both in PEM.
    pub identity: Option<(String, String)>,
}

impl EtcdTls {
    /// As a client of TLS, with the protocol that gRPC speaks. The error says what cannot be used.
    pub fn client(&self) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            None => roots.extend(TLS_SERVER_ROOTS.iter().cloned()),
            Some(ca) => {
                for certificate in certificates(ca)? {
                    roots
                        .add(certificate)
                        .map_err(|error| format!("has a certificate that cannot be used: {error}"))?;
                }
            }
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let mut client = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                    .map_err(|_| "has no private key in PEM".to_owned())?;
                builder
                    .with_client_auth_cert(certificates(certificate)?, key)
                    .map_err(|error| format!("does not go with service.state-cert-file: {error}"))?
            }
        };
        client.alpn_protocols.push(b"h2".to_vec());
        Ok(client)
    }
}

impl fmt::Debug for EtcdTls {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EtcdTls {{ ca: {}, identity: {} }}", self.ca.is_some(), self.identity.is_some())
    }
}

impl fmt::Display for EtcdLocation {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "etcds" } else { "etcd" };
        write!(f, "{scheme}://{}{}", self.members.join(","), self.prefix)
    }
}

impl fmt::Debug for EtcdLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `etcd` are the endpoints of the etcd that Calico keeps its data in: without another place, state is there, too, for it
/// is found from every agent that Marathon starts the scheduler on.
pub(super) fn read(reader: &mut Reader, etcd: &[String]) -> StateLocation {
    let state = reader.optional("service.state", location);
    if etcd.is_empty() && !reader.is_given("service.state") && reader.is_given("etcd.discovery-srv") {
        reader.fault(
            "service.state",
            "must be given: only with etcd.endpoints there is a place for it by default",
        );
    }
    let mut state = state.unwrap_or_else(|| StateLocation::Etcd(beside_calico(etcd)));
    let [ca, certificate, key] = [CA, CERTIFICATE, KEY].map(|name| reader.optional(name, file));
    let given = [CA, CERTIFICATE, KEY].map(|name| reader.is_given(name));
    match &mut state {
        StateLocation::Etcd(EtcdLocation { tls: Some(tls), .. }) => {
            tls.ca = ca;
            if let Err(problem) = tls.client() {
                reader.fault(CA, problem);
                tls.ca = None;
            }
            match (given[1], given[2]) {
                (true, false) => reader.fault(CERTIFICATE, format!("{KEY} must be given with it")),
                (false, true) => reader.fault(KEY, format!("{CERTIFICATE} must be given with it")),
                _ => {}
            }
            if let (Some(certificate), Some(key)) = (certificate, key) {
                if let Err(problem) = certificates(&certificate) {
                    reader.fault(CERTIFICATE, problem);
                    return state;
                }
                tls.identity = Some((certificate, key));
                if let Err(problem) = tls.client() {
                    reader.fault(KEY, problem);
                }
            }
        }
        _ => {
            for (name, _) in [CA, CERTIFICATE, KEY].into_iter().zip(given).filter(|(_, given)| *given) {
                reader.fault(name, "is for an etcd with TLS: service.state must begin with etcds://, or etcd.endpoints with https://");
            }
        }
    }
    state
}

fn location(value: &str) -> Result<StateLocation, String> {
    if let Some(path) = value.strip_prefix("file:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return absolute(path).map(StateLocation::File).map_err(|problem| format!("file: {problem}"));
    }
    let (rest, tls) = match (value.strip_prefix("etcd://"), value.strip_prefix("etcds://")) {
        (Some(rest), _) => (rest, None),
        (_, Some(rest)) => (rest, Some(EtcdTls::default())),
        _ => {
            return Err(
                "must be file:/path, etcd://host:port[,host:port]/prefix, or etcds:// for one with TLS"
                    .to_owned(),
            );
        }
    };
    match etcd_location(rest) {
        Ok(location) => Ok(StateLocation::Etcd(EtcdLocation { tls, ..location })),
        Err(problem) => Err(format!("etcd: {problem}")),
    }
}

/// The place in Calico's own etcd (`etcd.endpoints`), with TLS where it speaks it.
fn beside_calico(endpoints: &[String]) -> EtcdLocation {
    let member = |endpoint: &String| {
        let authority = endpoint.rsplit_once("//").map_or(endpoint.as_str(), |(_, authority)| authority);
        authority.rsplit_once('@').map_or(authority, |(_, address)| address).to_owned()
    };
    let members = endpoints.iter().map(member).collect();
    let tls = endpoints.iter().any(|endpoint| endpoint.starts_with("https:")).then(EtcdTls::default);
    EtcdLocation { members, user: None, tls, prefix: PREFIX.to_owned() }
}

/// `[user:password@]host:port[,host:port][/prefix]`
fn etcd_location(rest: &str) -> Result<EtcdLocation, String> {
    let (user, rest) = match rest.rsplit_once('@') {
        None => (None, rest),
        Some((user, rest)) => match user.split_once(':') {
            Some((name, password)) if !name.is_empty() => {
                (Some((name.to_owned(), password.to_owned())), rest)
            }
            _ => return Err("before '@' must be user:password".to_owned()),
        },
    };
    let (members, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let members = members.split(',').map(parse::authority).collect::<Result<Vec<String>, String>>()?;
    let prefix = prefix.trim_end_matches('/');
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if !prefix.chars().all(fine) || prefix.split('/').skip(1).any(str::is_empty) {
        return Err("the prefix must be letters, digits, '-', '_', '.' and single '/' only".to_owned());
    }
    let prefix = if prefix.is_empty() { PREFIX.to_owned() } else { format!("/{prefix}") };
    Ok(EtcdLocation { members, user, tls: None, prefix })
}
