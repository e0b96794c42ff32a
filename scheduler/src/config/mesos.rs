//! `mesos.*`, and who we are towards Mesos: `service.principal` and its kin.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use ring::signature::RsaKeyPair;
use serde::Deserialize;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::reader::{Reader, parse};
use super::{absolute, at_least};

/// Where DC/OS puts the credential of a service account.
const CREDENTIAL_VARIABLE: &str = "DCOS_SERVICE_ACCOUNT_CREDENTIAL";

/// `mesos.*`
#[derive(Debug, Clone)]
pub struct Mesos {
    /// How the leading master is found.
    pub masters: Masters,
    /// Certificates that are trusted besides the public ones: those of `mesos.ca-file`.
    pub roots: Vec<CertificateDer<'static>>,
    /// Who we are.
    pub identity: Identity,
    /// How often the list of agents is read.
    pub inventory_interval: Duration,
}

/// How the leading master is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Masters {
    /// Any of these points to the leader.
    Named(Vec<Server>),
    /// `ZooKeeper` knows it.
    ZooKeeper(ZooKeeper),
}

/// An HTTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// `host:port`
    pub authority: String,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority)
    }
}

/// `zk://[user:password@]host:port,…/path`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZooKeeper {
    /// `host:port`, comma-separated.
    pub ensemble: String,
    /// `user:password` of the scheme `digest`.
    pub digest: Option<Secret>,
    /// The node under which the masters are.
    pub path: String,
    /// Whether the masters, whose scheme `ZooKeeper` does not know, speak TLS.
    pub tls: bool,
}

/// A text that no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Who we are towards masters and agents.
#[derive(Debug, Clone)]
pub enum Identity {
    /// Nobody.
    Anonymous,
    /// HTTP basic authentication.
    Basic {
        /// The principal.
        principal: String,
        /// Its secret.
        secret: Secret,
    },
    /// A service account of DC/OS.
    Account(Account),
}

impl Identity {
    /// The principal that the framework registers with.
    pub fn principal(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::Basic { principal, .. } => Some(principal),
            Self::Account(account) => Some(&account.uid),
        }
    }
}

/// A service account of DC/OS.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its name.
    pub uid: String,
    /// What its login is signed with; its `Debug` shows the public part only.
    pub key: Arc<RsaKeyPair>,
    /// Where it logs in.
    pub login: Server,
    /// The path there.
    pub login_path: String,
}

pub(super) fn read(reader: &mut Reader, env: &BTreeMap<String, String>) -> Mesos {
    let roots = reader.optional("mesos.ca-file", roots);
    let mut masters = reader.required("mesos.master", Masters::Named(Vec::new()), masters);
    if let Masters::ZooKeeper(zookeeper) = &mut masters {
        zookeeper.tls = roots.is_some();
    }
    Mesos {
        masters,
        roots: roots.unwrap_or_default(),
        identity: identity(reader, env.get(CREDENTIAL_VARIABLE)),
        inventory_interval: reader.required(
            "mesos.inventory-interval",
            Duration::ZERO,
            at_least(Duration::from_secs(1)),
        ),
    }
}

fn identity(reader: &mut Reader, variable: Option<&String>) -> Identity {
    let principal = reader.optional("service.principal", principal);
    let secret = reader.optional("service.secret-file", secret_file);
    let account = reader.optional("service.account-credential", account);
    let given = |name| reader.is_given(name);
    let (has_principal, has_secret) = (given("service.principal"), given("service.secret-file"));
    if has_principal != has_secret {
        let (lone, missing) = if has_principal {
            ("service.principal", "service.secret-file")
        } else {
            ("service.secret-file", "service.principal")
        };
        reader.fault(lone, format!("{missing} must be given with it: neither is of use alone"));
        return Identity::Anonymous;
    }
    if has_principal && reader.is_given("service.account-credential") {
        reader.fault(
            "service.account-credential",
            "cannot go with service.principal and service.secret-file: give the one or the other",
        );
        return Identity::Anonymous;
    }
    if let (Some(principal), Some(secret)) = (principal, secret) {
        return Identity::Basic { principal, secret };
    }
    if let Some(account) = account {
        return Identity::Account(account);
    }
    let variable = variable.map(|value| value.trim()).filter(|value| !value.is_empty());
    let Some(value) = variable.filter(|_| !has_principal) else { return Identity::Anonymous };
    if reader.is_given("service.account-credential") {
        return Identity::Anonymous;
    }
    match self::account(value) {
        Ok(account) => Identity::Account(account),
        Err(problem) => {
            reader.fault("service.account-credential", format!("({CREDENTIAL_VARIABLE}) {problem}"));
            Identity::Anonymous
        }
    }
}

/// A principal is the user of basic authentication, which ends at a colon.
fn principal(value: &str) -> Result<String, String> {
    if value.contains(':') || value.contains(char::is_control) {
        return Err("must have no colon and no control characters".to_owned());
    }
    Ok(value.to_owned())
}

fn secret_file(value: &str) -> Result<Secret, String> {
    let text = file(value)?;
    match text.trim() {
        "" => Err("is empty; it must hold the principal's secret".to_owned()),
        secret => Ok(Secret::new(secret)),
    }
}

/// CA certificates of a file.
fn roots(value: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    certificates(&file(value)?)
}

/// Certificates in PEM.
pub(super) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match found {
        Ok(found) if found.is_empty() => {
            Err("has no certificate; it must hold certificates in PEM".to_owned())
        }
        Ok(found) => {
            let mut roots = tokio_rustls::rustls::RootCertStore::empty();
            for certificate in &found {
                roots
                    .add(certificate.clone())
                    .map_err(|error| format!("has a certificate that cannot be used: {error}"))?;
            }
            Ok(found)
        }
        Err(error) => Err(format!("is no PEM: {error}")),
    }
}

/// The text of a file.
pub(super) fn file(value: &str) -> Result<String, String> {
    let path = absolute(value.strip_prefix("file://").unwrap_or(value))?;
    std::fs::read_to_string(&path).map_err(|error| format!("cannot be read: {error}"))
}

/// As DC/OS writes it; other fields are of no interest.
#[derive(Deserialize)]
struct Credential {
    uid: String,
    private_key: String,
    login_endpoint: String,
    scheme: Option<String>,
}

/// A credential, or the file that holds it. No error shows what it holds.
fn account(value: &str) -> Result<Account, String> {
    let right =
        r#"must be {"scheme": "RS256", "uid": …, "private_key": …, "login_endpoint": …}, or its file"#;
    let json = if value.starts_with('{') { value.to_owned() } else { file(value)? };
    // The parser's message may quote values.
    let credential: Credential = serde_json::from_str(&json).map_err(|_| right.to_owned())?;
    if let Some(scheme) = credential.scheme.filter(|scheme| scheme != "RS256") {
        return Err(format!("has scheme '{scheme}'; RS256 is the one that is known"));
    }
    let (login, login_path) = login(&credential.login_endpoint)?;
    Ok(Account { uid: credential.uid, key: Arc::new(key(&credential.private_key)?), login, login_path })
}

fn key(pem: &str) -> Result<RsaKeyPair, String> {
    let wrong = |why: &dyn fmt::Display| {
        format!("its private_key must be an RSA key of 2048 bits or more in PEM (PKCS#8 or PKCS#1): {why}")
    };
    match PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| wrong(&"it is no PEM"))? {
        PrivateKeyDer::Pkcs8(key) => {
            RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).map_err(|error| wrong(&error))
        }
        PrivateKeyDer::Pkcs1(key) => {
            RsaKeyPair::from_der(key.secret_pkcs1_der()).map_err(|error| wrong(&error))
        }
        _ => Err(wrong(&"it is of another kind")),
    }
}

fn login(url: &str) -> Result<(Server, String), String> {
    let wrong =
        || "its login_endpoint must be a URL like https://leader.mesos/acs/api/v1/auth/login".to_owned();
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(wrong()) };
    let tls = match scheme {
        "https" => true,
        "http" => false,
        _ => return Err(wrong()),
    };
    if authority.as_str().contains('@') {
        return Err(wrong());
    }
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok((Server { tls, authority: format!("{}:{port}", authority.host()) }, path.to_owned()))
}

/// `zk://…` alone, or a list of masters.
fn masters(value: &str) -> Result<Masters, String> {
    if let Some(rest) = value.strip_prefix("zk://") {
        if rest.contains("://") {
            return Err(mixed());
        }
        return zookeeper(rest).map(Masters::ZooKeeper);
    }
    let parts: Vec<&str> = value.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| part.starts_with("zk://")) {
        return Err(mixed());
    }
    let servers: Vec<Server> = parts.into_iter().map(server).collect::<Result<_, _>>()?;
    if servers.is_empty() {
        return Err("must name a master, like leader.mesos:5050".to_owned());
    }
    Ok(Masters::Named(servers))
}

fn mixed() -> String {
    "zk:// cannot be mixed with other masters: give zk://host:port,host:port/path alone, or masters alone"
        .to_owned()
}

/// `host:port`, `http://host:port` or `https://host:port`.
fn server(value: &str) -> Result<Server, String> {
    let (tls, rest) = match value.split_once("://") {
        None => (false, value),
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        Some((scheme, _)) => {
            return Err(format!("'{scheme}://' is not known; give host:port, http://, https:// or zk://"));
        }
    };
    if rest.contains('@') {
        return Err("a master's URL has no user; give service.principal and service.secret-file".to_owned());
    }
    let authority = parse::authority(rest.trim_end_matches('/'))?;
    let usable = authority.parse::<http::uri::Authority>().is_ok();
    if usable { Ok(Server { tls, authority }) } else { Err(format!("'{authority}' is not host:port")) }
}

/// What follows `zk://`, as Mesos reads it: the path is from the first slash, the user before the last `@`.
fn zookeeper(rest: &str) -> Result<ZooKeeper, String> {
    let (servers, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_end_matches('/');
    if path.is_empty() || path.split('/').any(|part| ["", ".", ".."].contains(&part)) {
        return Err("must name the masters' path, as in zk://10.0.0.1:2181/mesos".to_owned());
    }
    let (digest, servers) = match servers.rsplit_once('@') {
        None => (None, servers),
        Some((user, servers)) if user.split_once(':').is_some_and(|(name, _)| !name.is_empty()) => {
            (Some(Secret::new(user)), servers)
        }
        Some(_) => return Err("its user must be user:password".to_owned()),
    };
    let servers: Vec<String> = servers
        .split(',')
        .map(str::trim)
        .filter(|server| !server.is_empty())
        .map(|server| {
            let has_port = server.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
            let server = if has_port { server.to_owned() } else { format!("{server}:2181") };
            let server = parse::authority(&server)?;
            let usable = server.parse::<http::uri::Authority>().is_ok();
            if usable { Ok(server) } else { Err(format!("'{server}' is not host:port")) }
        })
        .collect::<Result<_, _>>()?;
    if servers.is_empty() {
        return Err("must name a ZooKeeper server, as in zk://10.0.0.1:2181/mesos".to_owned());
    }
    Ok(ZooKeeper { ensemble: servers.join(","), digest, path: format!("/{path}"), tls: false })
}

/// An RSA key that is used in tests and nowhere else.
#[cfg(test)]
pub(crate) fn test_key() -> RsaKeyPair {
    key(tests::PKCS8).unwrap()
}

#[cfg(test)]
mod tests;
