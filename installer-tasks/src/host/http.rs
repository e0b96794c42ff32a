//! A small HTTP client: one request, over TCP or on a unix socket, bounded in time and size.

use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::http::request::Builder;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::values::{Endpoint, Scheme};

/// No answer that we ask for is larger.
const MAX_BODY_BYTES: usize = 16 << 20;

/// A request that brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection.
    #[error("cannot connect to {to}: {source}")]
    Connect {
        /// To what.
        to: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The exchange broke.
    #[error("{url}: {message}")]
    Exchange {
        /// What was asked for.
        url: String,
        /// What happened.
        message: String,
    },
    /// No answer in time.
    #[error("{url}: no answer within {} s", limit.as_secs_f32())]
    Timeout {
        /// What was asked for.
        url: String,
        /// How long was waited.
        limit: Duration,
    },
    /// There are no certificates to speak TLS with.
    #[error("{0} is an https address, which this version cannot read from")]
    Tls(Endpoint),
}

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

/// `GET <endpoint><path>`, all of it within `limit`.
pub async fn get(endpoint: &Endpoint, path: &str, limit: Duration) -> Result<Answer, HttpError> {
    get_over(endpoint, path, limit, None).await
}

/// The same, over TLS where that is given.
pub async fn get_over(
    endpoint: &Endpoint,
    path: &str,
    limit: Duration,
    tls: Option<&TlsConnector>,
) -> Result<Answer, HttpError> {
    over(endpoint, path, Request::get(path), Vec::new(), limit, tls).await
}

/// `POST <endpoint><path>` with a JSON body, all of it within `limit`; over TLS where that is given.
pub async fn post_over(
    endpoint: &Endpoint,
    path: &str,
    body: Vec<u8>,
    limit: Duration,
    tls: Option<&TlsConnector>,
) -> Result<Answer, HttpError> {
    over(endpoint, path, post(path), body, limit, tls).await
}

fn post(path: &str) -> Builder {
    Request::post(path).header("content-type", "application/json")
}

async fn over(
    endpoint: &Endpoint,
    path: &str,
    head: Builder,
    body: Vec<u8>,
    limit: Duration,
    tls: Option<&TlsConnector>,
) -> Result<Answer, HttpError> {
    if endpoint.scheme == Scheme::Https && tls.is_none() {
        return Err(HttpError::Tls(endpoint.clone()));
    }
    let url = format!("{endpoint}{path}");
    let failed = |source| HttpError::Connect { to: endpoint.to_string(), source };
    let head = head.header("host", endpoint.authority());
    let talk = async {
        let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(failed)?;
        let Some(tls) = tls else { return exchange(stream, head, body, &url).await };
        let name = ServerName::try_from(endpoint.host.clone());
        let name = name.map_err(|error| failed(std::io::Error::other(error)))?;
        exchange(tls.connect(name, stream).await.map_err(failed)?, head, body, &url).await
    };
    timeout(limit, talk).await.unwrap_or(Err(HttpError::Timeout { url: url.clone(), limit }))
}

/// `GET <path>` on a unix socket, all of it within `limit`.
pub async fn get_unix(socket: &Path, path: &str, limit: Duration) -> Result<Answer, HttpError> {
    on_socket(socket, path, Request::get(path), Vec::new(), limit).await
}

/// `POST <path>` with a JSON body, or none, on a unix socket, all of it within `limit`.
pub async fn post_unix(
    socket: &Path,
    path: &str,
    body: Vec<u8>,
    limit: Duration,
) -> Result<Answer, HttpError> {
    on_socket(socket, path, post(path), body, limit).await
}

async fn on_socket(
    socket: &Path,
    path: &str,
    head: Builder,
    body: Vec<u8>,
    limit: Duration,
) -> Result<Answer, HttpError> {
    let url = format!("unix://{}{path}", socket.display());
    let talk = async {
        let stream = UnixStream::connect(socket)
            .await
            .map_err(|source| HttpError::Connect { to: socket.display().to_string(), source })?;
        exchange(stream, head.header("host", "localhost"), body, &url).await
    };
    timeout(limit, talk).await.unwrap_or(Err(HttpError::Timeout { url: url.clone(), limit }))
}

async fn exchange<S>(stream: S, head: Builder, body: Vec<u8>, url: &str) -> Result<Answer, HttpError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let broke = |error: &dyn std::fmt::Display| HttpError::Exchange {
        url: url.to_owned(),
        message: error.to_string(),
    };
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| broke(&error))?;
    let connection = tokio::spawn(connection);
    let request = head
        .header("accept", "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| broke(&error))?;
    let response = sender.send_request(request).await.map_err(|error| broke(&error))?;
    let status = response.status().as_u16();
    let body =
        Limited::new(response.into_body(), MAX_BODY_BYTES).collect().await.map_err(|error| broke(&error))?;
    connection.abort();
    Ok(Answer { status, body: body.to_bytes() })
}
