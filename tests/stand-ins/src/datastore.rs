//! The datastore, etcd's v3 API: bounded reads and compare-and-swap transactions.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, GetOptions, Identity, TlsOptions, Txn, TxnOp,
    WatchOptions, WatchStream,
};
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};

/// How long one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(3);
/// Pause between two attempts to reach etcd.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Why the datastore did not do what it was asked.
#[derive(Debug, Error)]
pub enum DatastoreError {
    /// The endpoints or certificates cannot be used.
    #[error("{0}")]
    Settings(String),
    /// No endpoint answered in time.
    #[error("the datastore etcd at {endpoints} cannot be reached: {reason}")]
    Unreachable {
        /// The endpoints that were tried.
        endpoints: String,
        /// What happened last.
        reason: String,
    },
    /// A value is not what it should be.
    #[error("the value of {key} in etcd is not valid: {reason}")]
    Malformed {
        /// The key of the value.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A key with its value, and the revision that last changed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
    /// etcd's `mod_revision`: never 0.
    pub revision: i64,
}

impl Entry {
    /// The value as JSON.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, DatastoreError> {
        serde_json::from_str(&self.value).map_err(|error| self.malformed(&error))
    }

    /// The error for a value that breaks a rule.
    pub fn malformed(&self, reason: &impl ToString) -> DatastoreError {
        DatastoreError::Malformed { key: self.key.clone(), reason: reason.to_string() }
    }
}

/// What a transaction wants a key to be before it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist.
    Absent,
    /// The key was last changed by this revision.
    Revision(i64),
    /// Anything.
    Any,
}

impl Expect {
    /// That nothing has changed since `entry` was read.
    pub fn unchanged(entry: Option<&Entry>) -> Self {
        entry.map_or(Self::Absent, |entry| Self::Revision(entry.revision))
    }
}

/// One write of a transaction.
#[derive(Debug, Clone)]
pub struct Write {
    /// The key to write.
    pub key: String,
    /// What it must be before.
    pub expect: Expect,
    /// The new value; `None` deletes the key.
    pub value: Option<String>,
}

impl Write {
    /// Writes `value` as JSON.
    pub fn json(key: String, expect: Expect, value: &impl serde::Serialize) -> Result<Self, DatastoreError> {
        match serde_json::to_string(value) {
            Ok(text) => Ok(Self { key, expect, value: Some(text) }),
            Err(error) => Err(DatastoreError::Malformed { key, reason: error.to_string() }),
        }
    }

    /// Deletes `key`.
    pub fn delete(key: String, expect: Expect) -> Self {
        Self { key, expect, value: None }
    }
}

/// What the stand-ins need of a datastore.
pub trait Store: Sync {
    /// The entry of `key`.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Entry>, DatastoreError>> + Send;
    /// All entries below `prefix`, ordered by key.
    fn list(&self, prefix: &str) -> impl Future<Output = Result<Vec<Entry>, DatastoreError>> + Send;
    /// Does all writes, or none and returns false when an expectation does not hold.
    fn commit(&self, writes: Vec<Write>) -> impl Future<Output = Result<bool, DatastoreError>> + Send;
}

/// Where etcd is, and with which certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    endpoints: Vec<String>,
    tls: Tls,
}

/// Paths of PEM files for an `https` endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificate authority of the servers.
    pub ca: Option<PathBuf>,
    /// The client's certificate; wants `key`.
    pub cert: Option<PathBuf>,
    /// The client's key; wants `cert`.
    pub key: Option<PathBuf>,
}

impl Settings {
    /// Checks a comma-separated list of `http://host:port` or `https://host:port`.
    pub fn parse(endpoints: &str, tls: Tls) -> Result<Self, DatastoreError> {
        let list: Vec<String> = endpoints.split(',').map(|endpoint| endpoint.trim().to_owned()).collect();
        for endpoint in &list {
            check_endpoint(endpoint).map_err(|reason| {
                DatastoreError::Settings(format!(
                    "etcd endpoint {endpoint:?} {reason}; expected a list such as http://10.0.0.1:2379,http://10.0.0.2:2379"
                ))
            })?;
        }
        if tls.cert.is_some() != tls.key.is_some() {
            return Err(DatastoreError::Settings(
                "a client certificate for etcd and its key must be given together".to_owned(),
            ));
        }
        if tls != Tls::default() && list.iter().any(|endpoint| endpoint.starts_with("http://")) {
            return Err(DatastoreError::Settings(
                "certificates for etcd are given, but an endpoint starts with http://; expected https://"
                    .to_owned(),
            ));
        }
        Ok(Self { endpoints: list, tls })
    }

    fn options(&self) -> Result<ConnectOptions, DatastoreError> {
        let read = |path: &PathBuf| {
            std::fs::read(path)
                .map_err(|error| DatastoreError::Settings(format!("cannot read {}: {error}", path.display())))
        };
        let mut options = ConnectOptions::new()
            .with_connect_timeout(REQUEST_LIMIT)
            .with_keep_alive(Duration::from_secs(2), Duration::from_secs(2));
        if self.endpoints.iter().any(|endpoint| endpoint.starts_with("https://")) {
            let mut tls = TlsOptions::new();
            if let Some(ca) = &self.tls.ca {
                tls = tls.ca_certificate(Certificate::from_pem(read(ca)?));
            }
            if let (Some(cert), Some(key)) = (&self.tls.cert, &self.tls.key) {
                tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
            }
            options = options.with_tls(tls);
        }
        Ok(options)
    }
}

fn check_endpoint(endpoint: &str) -> Result<(), &'static str> {
    let authority = endpoint
        .strip_prefix("http://")
        .or_else(|| endpoint.strip_prefix("https://"))
        .ok_or("does not start with http:// or https://")?;
    let (host, port) = authority.rsplit_once(':').ok_or("has no port")?;
    if host.is_empty() || host.contains(['/', '@', ' ']) {
        return Err("has no valid host");
    }
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(()),
        _ => Err("has no valid port"),
    }
}

/// An etcd that has answered.
#[derive(Clone)]
pub struct Etcd {
    client: Client,
    endpoints: String,
}

impl Etcd {
    /// Connects and reads once, trying again until `limit`: a client can be made for a dead endpoint.
    pub async fn connect(settings: &Settings, limit: Duration) -> Result<Self, DatastoreError> {
        let endpoints = settings.endpoints.join(",");
        let options = settings.options()?;
        let unreachable =
            |reason: String| DatastoreError::Unreachable { endpoints: endpoints.clone(), reason };
        let deadline = Instant::now() + limit;
        loop {
            // Boxed, because it is 17 kB that every caller would carry.
            let attempt = Box::pin(async {
                let client = Client::connect(&settings.endpoints, Some(options.clone()))
                    .await
                    .map_err(|error| unreachable(reason_of(&error)))?;
                let etcd = Self { client, endpoints: endpoints.clone() };
                etcd.get("/calico").await.map(|_| etcd)
            });
            let left = deadline.saturating_duration_since(Instant::now());
            match timeout(left, attempt).await {
                Ok(Ok(etcd)) => return Ok(etcd),
                Ok(Err(error)) if Instant::now() + RETRY_PAUSE >= deadline => return Err(error),
                Ok(Err(_)) => sleep(RETRY_PAUSE).await,
                Err(_) => return Err(unreachable(format!("no answer within {limit:?}"))),
            }
        }
    }

    /// Watches everything below `prefix`, from `revision` on; 0 is now.
    pub async fn watch(&self, prefix: &str, revision: i64) -> Result<WatchStream, DatastoreError> {
        let options = WatchOptions::new().with_prefix().with_start_revision(revision);
        self.bounded(self.client.clone().watch(prefix, Some(options))).await
    }

    /// The revision that etcd is at.
    pub async fn revision(&self) -> Result<i64, DatastoreError> {
        let answer = self.bounded(self.client.clone().get("/calico", None)).await?;
        Ok(answer.header().map_or(0, etcd_client::ResponseHeader::revision))
    }

    async fn bounded<T>(
        &self,
        request: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, DatastoreError> {
        let unreachable =
            |reason: String| DatastoreError::Unreachable { endpoints: self.endpoints.clone(), reason };
        match timeout(REQUEST_LIMIT, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(unreachable(reason_of(&error))),
            Err(_) => Err(unreachable(format!("no answer within {REQUEST_LIMIT:?}"))),
        }
    }
}

/// The client's own text repeats itself at length.
fn reason_of(error: &etcd_client::Error) -> String {
    match error {
        etcd_client::Error::GRpcStatus(status) => format!("{} ({:?})", status.message(), status.code()),
        other => other.to_string(),
    }
}

fn entry(pair: &etcd_client::KeyValue) -> Entry {
    Entry {
        key: String::from_utf8_lossy(pair.key()).into_owned(),
        value: String::from_utf8_lossy(pair.value()).into_owned(),
        revision: pair.mod_revision(),
    }
}

impl Store for Etcd {
    async fn get(&self, key: &str) -> Result<Option<Entry>, DatastoreError> {
        let answer = self.bounded(self.client.clone().get(key, None)).await?;
        Ok(answer.kvs().first().map(entry))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, DatastoreError> {
        let options = GetOptions::new().with_prefix();
        let answer = self.bounded(self.client.clone().get(prefix, Some(options))).await?;
        Ok(answer.kvs().iter().map(entry).collect())
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<bool, DatastoreError> {
        let mut conditions = Vec::new();
        let mut operations = Vec::new();
        for Write { key, expect, value } in writes {
            match expect {
                Expect::Absent => conditions.push(Compare::mod_revision(key.clone(), CompareOp::Equal, 0)),
                Expect::Revision(revision) => {
                    conditions.push(Compare::mod_revision(key.clone(), CompareOp::Equal, revision));
                }
                Expect::Any => {}
            }
            operations.push(match value {
                Some(value) => TxnOp::put(key, value, None),
                None => TxnOp::delete(key, None),
            });
        }
        let transaction = Txn::new().when(conditions).and_then(operations);
        let answer = self.bounded(self.client.clone().txn(transaction)).await?;
        Ok(answer.succeeded())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_checked() {
        assert!(Settings::parse("http://10.0.0.1:2379, http://etcd.mesos:2379", Tls::default()).is_ok());
        for (bad, reason) in [
            ("", "does not start with"),
            ("10.0.0.1:2379", "does not start with"),
            ("http://10.0.0.1", "has no port"),
            ("http://:2379", "has no valid host"),
            ("http://10.0.0.1:2379,", "does not start with"),
            ("http://10.0.0.1:0", "has no valid port"),
            ("http://10.0.0.1:2379/v2", "has no valid port"),
        ] {
            let error = Settings::parse(bad, Tls::default()).unwrap_err().to_string();
            assert!(error.contains(reason), "{bad:?}: {error}");
        }
    }

    #[test]
    fn certificates_want_https_and_each_other() {
        let ca = Tls { ca: Some("/ca.pem".into()), ..Tls::default() };
        assert!(Settings::parse("https://10.0.0.1:2379", ca.clone()).is_ok());
        assert!(Settings::parse("http://10.0.0.1:2379", ca).is_err());
        let half = Tls { cert: Some("/cert.pem".into()), ..Tls::default() };
        assert!(Settings::parse("https://10.0.0.1:2379", half).is_err());
    }

    #[tokio::test]
    async fn a_dead_endpoint_is_reported_in_time() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for (name, dead) in [("refused", true), ("silent", false)] {
            let listener = if dead { None } else { Some(&listener) };
            let endpoint = match listener {
                Some(_) => format!("http://{address}"),
                None => "http://127.0.0.1:1".to_owned(),
            };
            let settings = Settings::parse(&endpoint, Tls::default()).unwrap();
            let start = Instant::now();
            let Err(error) = Etcd::connect(&settings, Duration::from_secs(1)).await else {
                panic!("{name}: connected to nothing");
            };
            assert!(error.to_string().contains(&endpoint), "{name}: {error}");
            assert!(start.elapsed() < Duration::from_secs(3), "{name} took {:?}", start.elapsed());
        }
    }
}
