//! Requests to masters, agents and the login: over TLS where it is spoken, with our credentials.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::Full;
use mesos_v1::PROTOBUF;
use mesos_v1::http::{Connection, HttpError, Response, connect};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, Error as TlsError, RootCertStore};

use super::auth::{Auth, AuthError};
use crate::config::{Identity, Server};
use crate::state::Tenure;

/// How long one address may take until it is connected, and its TLS handshake.
const CONNECT: Duration = Duration::from_secs(5);

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The server was not reached, or broke off.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// There are no credentials to send.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// Nothing was sent: by now another one may lead.
    #[error("this scheduler no longer leads")]
    Deposed,
}

/// Opens connections.
#[derive(Debug, Clone)]
pub(super) struct Dialer {
    tls: Arc<ClientConfig>,
}

impl Dialer {
    /// Trusts Mozilla's list of authorities, which is compiled in so that every host has the same, and `roots`.
    pub fn new(roots: &[CertificateDer<'static>]) -> Result<Self, TlsError> {
        let mut trusted = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for certificate in roots {
            trusted.add(certificate.clone())?;
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(trusted)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(tls) })
    }

    /// Connects to `server`: to each address of its name in turn.
    pub async fn open(&self, server: &Server) -> Result<Connection, HttpError> {
        let authority = &server.authority;
        let stream = connect(authority, CONNECT).await?;
        if !server.tls {
            return Connection::over(stream, authority).await;
        }
        let failed = |source| HttpError::Connect { authority: authority.clone(), source };
        let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let name = name.map_err(|error| failed(io::Error::other(error)))?;
        let handshake = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream);
        let stream = timeout(CONNECT, handshake).await.map_err(|_| HttpError::Timeout {
            authority: authority.clone(),
            what: "agree on TLS",
            limit: CONNECT,
        })?;
        let stream = stream.map_err(|error| {
            let advice = "when its certificate is of an authority of your own, name that in mesos.ca-file";
            failed(io::Error::other(format!("TLS: {error}; {advice}")))
        })?;
        Connection::over(stream, authority).await
    }
}

/// Sends requests with our credentials.
#[derive(Debug, Clone)]
pub struct Access {
    dialer: Dialer,
    auth: Auth,
    tenure: Tenure,
}

impl Access {
    /// Access as `identity`. `roots` are trusted besides the public authorities.
    pub fn new(identity: &Identity, roots: &[CertificateDer<'static>]) -> Result<Self, TlsError> {
        let dialer = Dialer::new(roots)?;
        let auth = Auth::new(identity, dialer.clone());
        Ok(Self { dialer, auth, tenure: Tenure::endless() })
    }

    /// The same, for as long as `tenure` holds: nothing is sent after that.
    #[must_use]
    pub fn during(&self, tenure: &Tenure) -> Self {
        Self { tenure: tenure.clone(), ..self.clone() }
    }

    /// POSTs a protobuf `body` to `path`. `open` is a connection to `server` that may be used again, as may the one
    /// that comes back once the answer was read. Credentials that are refused are renewed, once.
    pub async fn post(
        &self,
        server: &Server,
        open: Option<Connection>,
        path: &str,
        headers: HeaderMap,
        body: impl Into<Bytes>,
        limit: Duration,
    ) -> Result<(Connection, Response), AccessError> {
        let mut request = Request::post(path)
            .header(CONTENT_TYPE, PROTOBUF)
            .header(ACCEPT, PROTOBUF)
            .body(Full::new(body.into()))
            .map_err(|source| invalid(server, path, source))?;
        request.headers_mut().extend(headers);
        self.send(server, open, request, limit).await
    }

    /// GETs `path`.
    pub async fn get(&self, server: &Server, path: &str, limit: Duration) -> Result<Response, AccessError> {
        let request = Request::get(path)
            .body(Full::<Bytes>::default())
            .map_err(|source| invalid(server, path, source))?;
        self.send(server, None, request, limit).await.map(|(_, response)| response)
    }

    async fn send(
        &self,
        server: &Server,
        open: Option<Connection>,
        mut request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<(Connection, Response), AccessError> {
        let mut connection = match open {
            Some(connection) => connection,
            None => self.dialer.open(server).await?,
        };
        let Some(header) = self.auth.header().await? else {
            let response = self.send_over(&mut connection, request, limit).await?;
            return Ok((connection, response));
        };
        request.headers_mut().insert(AUTHORIZATION, header.clone());
        let response = self.send_over(&mut connection, request.clone(), limit).await?;
        if response.status != StatusCode::UNAUTHORIZED {
            return Ok((connection, response));
        }
        let Some(renewed) = self.auth.renew(&header).await? else { return Ok((connection, response)) };
        request.headers_mut().insert(AUTHORIZATION, renewed);
        // The refusal need not be read: it is another connection.
        let mut connection = self.dialer.open(server).await?;
        let response = self.send_over(&mut connection, request, limit).await?;
        Ok((connection, response))
    }

    /// Asked last: to connect and to log in take their time.
    async fn send_over(
        &self,
        connection: &mut Connection,
        request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<Response, AccessError> {
        connection.ready(limit).await?;
        if !self.tenure.holds() {
            return Err(AccessError::Deposed);
        }
        Ok(connection.send(request, limit).await?)
    }

    /// What to do about a refusal, after `; `; nothing where the status tells no more than the answer does.
    pub fn advice(&self, status: StatusCode) -> String {
        match status {
            StatusCode::UNAUTHORIZED => format!("; {}", self.auth.unauthorized()),
            StatusCode::FORBIDDEN => format!("; {}", self.auth.forbidden()),
            _ => String::new(),
        }
    }
}

fn invalid(server: &Server, path: &str, source: http::Error) -> HttpError {
    HttpError::Request { authority: server.authority.clone(), path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
