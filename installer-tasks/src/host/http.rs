//! A small HTTP client: one GET, bounded in time and size.

use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::values::{Endpoint, Scheme};

/// No answer that we ask for is larger.
const MAX_BODY_BYTES: usize = 16 << 20;

/// A GET that brought no answer.
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
    #[error("GET {url}: {message}")]
    Exchange {
        /// What was asked for.
        url: String,
        /// What happened.
        message: String,
    },
    /// No answer in time.
    #[error("GET {url}: no answer within {} s", limit.as_secs_f32())]
    Timeout {
        /// What was asked for.
        url: String,
        /// How long was waited.
        limit: Duration,
    },
    /// TLS is not spoken by this version.
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
    if endpoint.scheme == Scheme::Https {
        return Err(HttpError::Tls(endpoint.clone()));
    }
    let url = format!("{endpoint}{path}");
    timeout(limit, exchange(endpoint, path, &url)).await.unwrap_or(Err(HttpError::Timeout { url, limit }))
}

/// The same over a unix socket.
pub async fn get_unix(socket: &Path, path: &str, limit: Duration) -> Result<Answer, HttpError> {
    let url = format!("unix://{}{path}", socket.display());
    let exchange = async {
        let stream = UnixStream::connect(socket)
            .await
            .map_err(|source| HttpError::Connect { to: socket.display().to_string(), source })?;
        exchange_over(stream, "localhost", path, &url).await
    };
    timeout(limit, exchange).await.unwrap_or_else(|_| Err(HttpError::Timeout { url: url.clone(), limit }))
}

async fn exchange(endpoint: &Endpoint, path: &str, url: &str) -> Result<Answer, HttpError> {
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port))
        .await
        .map_err(|source| HttpError::Connect { to: endpoint.to_string(), source })?;
    exchange_over(stream, &endpoint.authority(), path, url).await
}

async fn exchange_over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    authority: &str,
    path: &str,
    url: &str,
) -> Result<Answer, HttpError> {
    let broke = |error: &dyn std::fmt::Display| HttpError::Exchange {
        url: url.to_owned(),
        message: error.to_string(),
    };
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| broke(&error))?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path)
        .header("host", authority)
        .header("accept", "application/json")
        .body(Empty::<Bytes>::new())
        .map_err(|error| broke(&error))?;
    let response = sender.send_request(request).await.map_err(|error| broke(&error))?;
    let status = response.status().as_u16();
    let body =
        Limited::new(response.into_body(), MAX_BODY_BYTES).collect().await.map_err(|error| broke(&error))?;
    connection.abort();
    Ok(Answer { status, body: body.to_bytes() })
}
