//! A real etcd, with errors for people.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    Certificate, Client as Inner, CompareOp, ConnectOptions, Error, GetOptions, Identity, KeyValue,
    PutOptions, ResponseHeader, SortOrder, SortTarget, TlsOptions, TxnOp, TxnOpResponse,
};
use tokio::sync::OnceCell;
use webpki_roots::TLS_SERVER_ROOTS;

use super::kv::{Compare, Header, Kv, Page, Pair, Range, Txn, TxnAnswer, Write};
use super::look::look;
use crate::config::{EtcdLocation, EtcdTls};
use crate::state::StoreError;

const CONNECT: Duration = Duration::from_secs(3);
/// A member that does not answer pings is left out. etcd refuses pings that come more often than every 5 s.
const PING: Duration = Duration::from_secs(10);

/// What to do about some of etcd's refusals.
const ADVICE: [(&str, &str); 4] = [
    (
        "authentication failed",
        "correct the user and the password in service.state, or set the password in etcd (`etcdctl user passwd`)",
    ),
    (
        "authentication is not enabled",
        "leave user:password@ out of service.state, or enable it (`etcdctl auth enable`)",
    ),
    ("user name is empty", "etcd has authentication: give service.state as etcd://user:password@host:port"),
    (
        "permission denied",
        "grant a role of this user all keys below the prefix of service.state (`etcdctl role grant-permission \
         --prefix=true ROLE readwrite PREFIX/`)",
    ),
];

/// A real etcd. It is connected to with the first request.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    location: EtcdLocation,
    connected: OnceCell<Inner>,
}

impl Client {
    /// Nothing is sent before the first request.
    pub fn new(location: EtcdLocation) -> Self {
        Self(Arc::new(Shared { location, connected: OnceCell::new() }))
    }

    /// Only a first answer tells whether anyone is there: a connection comes from dead members, too.
    pub(super) async fn connected(&self) -> Result<Inner, StoreError> {
        let connect = || async {
            let location = &self.0.location;
            let mut options = ConnectOptions::new()
                .with_connect_timeout(CONNECT)
                .with_keep_alive(PING, CONNECT)
                .with_keep_alive_while_idle(true);
            if let Some((user, password)) = &location.user {
                options = options.with_user(user, password).with_auto_token_refresh(true);
            }
            if let Some(tls) = &location.tls {
                options = options.with_tls(tls_options(tls));
            }
            Inner::connect(location.members.clone(), Some(options)).await
        };
        let connected = Box::pin(self.0.connected.get_or_try_init(connect)).await;
        connected.cloned().map_err(|error| self.for_people(error))
    }

    fn for_people(&self, error: Error) -> StoreError {
        let etcd = self.name();
        let reason = match error {
            // Its own text repeats itself at length.
            Error::GRpcStatus(status) => format!("{} ({:?})", status.message(), status.code()),
            other => other.to_string(),
        };
        // This and the following as etcd words it (`rpctypes`).
        if reason.contains("database space exceeded") {
            return StoreError::NoSpace { etcd };
        }
        let advice = ADVICE.iter().find(|(words, _)| reason.contains(words));
        let reason = advice.map_or(reason.clone(), |(_, advice)| format!("{reason}: {advice}"));
        StoreError::Unavailable { etcd, reason }
    }
}

// Requests are boxed: they are kilobytes.
impl Kv for Client {
    fn name(&self) -> String {
        self.0.location.to_string()
    }

    async fn txn(&self, txn: Txn) -> Result<TxnAnswer, StoreError> {
        let mut client = self.connected().await?;
        let answer = Box::pin(client.txn(txn.into())).await.map_err(|error| self.for_people(error))?;
        let read = answer.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(get) => get.kvs().first().map(pair),
            _ => None,
        });
        Ok(TxnAnswer { header: header(answer.header()), succeeded: answer.succeeded(), read })
    }

    async fn range(&self, range: Range) -> Result<Page, StoreError> {
        let mut client = self.connected().await?;
        let mut options = GetOptions::new()
            .with_limit(range.limit)
            .with_revision(range.revision)
            .with_sort(SortTarget::Key, SortOrder::Ascend);
        if let Some(until) = range.until {
            options = options.with_range(until);
        }
        let answer = Box::pin(client.get(range.from, Some(options))).await;
        let answer = answer.map_err(|error| self.for_people(error))?;
        let pairs = answer.kvs().iter().map(pair).collect();
        Ok(Page { header: header(answer.header()), pairs, more: answer.more() })
    }

    async fn grant(&self, lasting: Duration) -> Result<i64, StoreError> {
        let mut client = self.connected().await?;
        let seconds = i64::try_from(lasting.as_secs()).unwrap_or(i64::MAX);
        let answer = Box::pin(client.lease_grant(seconds, None)).await;
        Ok(answer.map_err(|error| self.for_people(error))?.id())
    }

    async fn keep_alive(&self, lease: i64) -> Result<bool, StoreError> {
        let mut client = self.connected().await?;
        match Box::pin(client.lease_keep_alive(lease)).await {
            Err(error) if no_such_lease(&error) => Ok(false),
            answer => answer.map(|_| true).map_err(|error| self.for_people(error)),
        }
    }

    async fn explain(&self) -> Option<String> {
        Box::pin(look(&self.0.location)).await
    }

    async fn revoke(&self, lease: i64) -> Result<(), StoreError> {
        let mut client = self.connected().await?;
        match Box::pin(client.lease_revoke(lease)).await {
            Err(error) if !no_such_lease(&error) => Err(self.for_people(error)),
            _ => Ok(()),
        }
    }
}

fn tls_options(tls: &EtcdTls) -> TlsOptions {
    let options = match &tls.ca {
        Some(ca) => TlsOptions::new().ca_certificate(Certificate::from_pem(ca)),
        None => TlsOptions::new().trust_anchors(TLS_SERVER_ROOTS.to_vec()),
    };
    match &tls.identity {
        Some((certificate, key)) => options.identity(Identity::from_pem(certificate, key)),
        None => options,
    }
}

impl From<Txn> for etcd_client::Txn {
    fn from(txn: Txn) -> Self {
        let when = txn.when.into_iter().map(|compare| match compare {
            Compare::Created(key, at) => etcd_client::Compare::create_revision(key, CompareOp::Equal, at),
            Compare::Modified(key, at) => etcd_client::Compare::mod_revision(key, CompareOp::Equal, at),
        });
        let then = txn.then.into_iter().map(|write| match write {
            Write::Put { key, value, lease } => {
                TxnOp::put(key, value, lease.map(|lease| PutOptions::new().with_lease(lease)))
            }
            Write::Delete { key } => TxnOp::delete(key, None),
        });
        let or_else = txn.or_read.into_iter().map(|key| TxnOp::get(key, None));
        Self::new()
            .when(when.collect::<Vec<_>>())
            .and_then(then.collect::<Vec<_>>())
            .or_else(or_else.collect::<Vec<_>>())
    }
}

fn header(header: Option<&ResponseHeader>) -> Header {
    // etcd never leaves it out (`Header` is filled by every method of its server).
    header.map_or(Header { cluster: 0, revision: 0 }, |header| Header {
        cluster: header.cluster_id(),
        revision: header.revision(),
    })
}

fn pair(pair: &KeyValue) -> Pair {
    Pair {
        key: String::from_utf8_lossy(pair.key()).into_owned(),
        value: pair.value().to_vec(),
        created: pair.create_revision(),
        modified: pair.mod_revision(),
    }
}

/// Whether a lease is gone (`rpctypes.ErrLeaseNotFound`, or a renewal that answers so).
fn no_such_lease(error: &Error) -> bool {
    match error {
        Error::LeaseKeepAliveError(_) => true,
        Error::GRpcStatus(status) => status.message().contains("lease not found"),
        _ => false,
    }
}
