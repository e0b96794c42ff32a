//! etcd's client, with an end to every wait and errors for people.

use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Error};
use tokio::time::timeout;

use crate::config::EtcdLocation;
use crate::state::StoreError;

/// How long one request may take: well above what a slow etcd needs.
const REQUEST: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(3);
/// A member that does not answer pings is left out. etcd refuses pings that come more often than every 5 s.
const PING: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(super) struct Etcd {
    /// Boxed, as are its requests: they are kilobytes.
    pub client: Box<Client>,
    /// For errors: without the password.
    name: String,
}

impl Etcd {
    /// Only a first answer tells whether anyone is there: this one comes from dead members, too.
    pub async fn connect(location: &EtcdLocation) -> Result<Self, StoreError> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT)
            .with_keep_alive(PING, CONNECT)
            .with_keep_alive_while_idle(true);
        if let Some((user, password)) = &location.user {
            options = options.with_user(user, password).with_auto_token_refresh(true);
        }
        let name = location.to_string();
        let client = bounded(&name, Client::connect(location.members.clone(), Some(options))).await?;
        Ok(Self { client: Box::new(client), name })
    }

    /// One request, for as long as one may take.
    pub fn bounded<T>(
        &self,
        request: impl Future<Output = Result<T, Error>>,
    ) -> impl Future<Output = Result<T, StoreError>> {
        bounded(&self.name, request)
    }
}

fn bounded<T>(
    etcd: &str,
    request: impl Future<Output = Result<T, Error>>,
) -> impl Future<Output = Result<T, StoreError>> {
    let request = timeout(REQUEST, Box::pin(request));
    async move {
        match request.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(for_people(etcd, error)),
            Err(_) => {
                let reason = format!("no answer within {REQUEST:?}");
                Err(StoreError::Unavailable { etcd: etcd.to_owned(), reason })
            }
        }
    }
}

fn for_people(etcd: &str, error: Error) -> StoreError {
    let etcd = etcd.to_owned();
    let reason = match error {
        // Its own text repeats itself at length.
        Error::GRpcStatus(status) => format!("{} ({:?})", status.message(), status.code()),
        other => other.to_string(),
    };
    // As etcd words it (`rpctypes.ErrNoSpace`).
    if reason.contains("database space exceeded") {
        return StoreError::NoSpace { etcd };
    }
    StoreError::Unavailable { etcd, reason }
}

/// Whether a lease is gone (`rpctypes.ErrLeaseNotFound`, or a renewal that answers so).
pub(super) fn no_such_lease(error: &Error) -> bool {
    match error {
        Error::LeaseKeepAliveError(_) => true,
        Error::GRpcStatus(status) => status.message().contains("lease not found"),
        _ => false,
    }
}
