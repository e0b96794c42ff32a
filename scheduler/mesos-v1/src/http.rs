//! The HTTP that the scheduler and the executor share: POST over a given connection, with the
//! answer as bytes or as a stream of records.
//!
//! Redirects are not followed and status codes not judged: the callers do. A connection is
//! made over any byte stream, so TLS is the caller's choice.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    body::{Body as _, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::codec::Decoder as _;

use crate::recordio::{RecordDecoder, RecordError};

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection.
    #[error("cannot connect to {authority}: {source}")]
    Connect {
        /// `host:port` of the server.
        authority: String,
        /// The reason.
        source: io::Error,
    },
    /// The server did not answer in time.
    #[error("{authority} did not {what} within {limit:?}")]
    Timeout {
        /// `host:port` of the server.
        authority: String,
        /// What was awaited.
        what: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// The authority, path or a header cannot be sent.
    #[error("cannot make a request for {authority}{path}: {source}")]
    Request {
        /// `host:port` of the server.
        authority: String,
        /// The path asked for.
        path: String,
        /// The reason.
        source: http::Error,
    },
    /// The connection broke, or the answer is not HTTP.
    #[error("the connection to {authority} failed: {source}")]
    Connection {
        /// `host:port` of the server.
        authority: String,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer's body is longer than the caller takes.
    #[error("the answer of {authority} is longer than {limit} bytes")]
    BodyTooLong {
        /// `host:port` of the server.
        authority: String,
        /// The limit in bytes.
        limit: usize,
    },
}

/// Opens a TCP connection to `authority` (`host:port`). Each address of a name is tried in turn, for `limit` each, and
/// so is its resolution.
pub async fn connect(authority: &str, limit: Duration) -> Result<TcpStream, HttpError> {
    let timed_out = |what| HttpError::Timeout { authority: authority.to_owned(), what, limit };
    let failed = |source| HttpError::Connect { authority: authority.to_owned(), source };
    let addresses = timeout(limit, lookup_host(authority)).await;
    let addresses = addresses.map_err(|_| timed_out("resolve"))?.map_err(failed)?;
    connect_any(authority, addresses, limit).await
}

/// Connects to the first of `addresses` that accepts; otherwise tells what the last one did.
async fn connect_any(
    authority: &str,
    addresses: impl Iterator<Item = SocketAddr>,
    limit: Duration,
) -> Result<TcpStream, HttpError> {
    let failed = |source| HttpError::Connect { authority: authority.to_owned(), source };
    let mut error = failed(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for address in addresses {
        error = match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return stream.set_nodelay(true).map(|()| stream).map_err(failed),
            Ok(Err(source)) => failed(source),
            Err(_) => {
                let what = "accept a connection";
                HttpError::Timeout { authority: authority.to_owned(), what, limit }
            }
        };
    }
    Err(error)
}

/// Ends the task that drives a connection when the last user of it is gone.
#[derive(Debug)]
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An HTTP/1.1 connection. It lives until it and all its responses are dropped.
#[derive(Debug)]
pub struct Connection {
    authority: String,
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Arc<Driver>,
}

impl Connection {
    /// Speaks HTTP over `io`, which is connected to `authority` (`host:port`, for the Host header
    /// and for errors).
    pub async fn over<T>(io: T, authority: &str) -> Result<Self, HttpError>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(io))
            .await
            .map_err(|e| HttpError::Connection { authority: authority.to_owned(), source: e.into() })?;
        // A failure of the connection is seen by its users.
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { authority: authority.to_owned(), sender, driver: Arc::new(Driver(driver)) })
    }

    /// Connects over plain TCP to `authority` (`host:port`).
    pub async fn open(authority: &str, limit: Duration) -> Result<Self, HttpError> {
        Self::over(connect(authority, limit).await?, authority).await
    }

    /// Waits until a request would be sent at once: the answer before it is read.
    pub async fn ready(&mut self, limit: Duration) -> Result<(), HttpError> {
        answer(&self.authority, limit, self.sender.ready()).await
    }

    /// Whether the server has closed the connection.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a protobuf `body` to `path` with further `headers`, which may replace the ones set
    /// here (`Host`, `Content-Type`, `Accept`), and waits for the head of the answer. The body of
    /// an earlier answer must have been read.
    pub async fn post(
        &mut self,
        path: &str,
        headers: &HeaderMap,
        body: impl Into<Bytes>,
        limit: Duration,
    ) -> Result<Response, HttpError> {
        let mut request = http::Request::post(path)
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, crate::PROTOBUF)
            .header(header::ACCEPT, crate::PROTOBUF)
            .body(Full::new(body.into()))
            .map_err(|source| HttpError::Request {
                authority: self.authority.clone(),
                path: path.to_owned(),
                source,
            })?;
        for name in headers.keys() {
            request.headers_mut().remove(name);
        }
        request.headers_mut().extend(headers.iter().map(|(n, v)| (n.clone(), v.clone())));
        self.send(request, limit).await
    }

    /// Sends any request as it is, but for a `Host` header where there is none.
    pub async fn send(
        &mut self,
        mut request: http::Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<Response, HttpError> {
        if !request.headers().contains_key(header::HOST) {
            let host = HeaderValue::from_str(&self.authority).map_err(|e| HttpError::Request {
                authority: self.authority.clone(),
                path: request.uri().to_string(),
                source: e.into(),
            })?;
            request.headers_mut().insert(header::HOST, host);
        }
        let sent = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        let response = answer(&self.authority, limit, sent).await?;
        let (head, body) = response.into_parts();
        Ok(Response {
            status: head.status,
            headers: head.headers,
            authority: self.authority.clone(),
            body,
            driver: Arc::clone(&self.driver),
        })
    }
}

/// What comes from the server at `authority` in time.
async fn answer<T>(
    authority: &str,
    limit: Duration,
    from_server: impl Future<Output = hyper::Result<T>>,
) -> Result<T, HttpError> {
    timeout(limit, from_server)
        .await
        .map_err(|_| HttpError::Timeout { authority: authority.to_owned(), what: "answer", limit })?
        .map_err(|e| HttpError::Connection { authority: authority.to_owned(), source: e.into() })
}

/// The head of an answer; its body is still to be read, as bytes or as records.
#[derive(Debug)]
pub struct Response {
    /// The status code, whatever it is.
    pub status: StatusCode,
    /// The headers, such as `Mesos-Stream-Id` or `Location`.
    pub headers: HeaderMap,
    authority: String,
    body: Incoming,
    driver: Arc<Driver>,
}

impl Response {
    /// A header as text; `None` when it is absent or not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The next piece of the body, as it arrives; `None` at its end. The time it takes is the
    /// caller's to bound.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame
                .map_err(|e| HttpError::Connection { authority: self.authority.clone(), source: e.into() })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The whole body, of at most `limit` bytes. The time it takes is the caller's to bound.
    pub async fn bytes(self, limit: usize) -> Result<Bytes, HttpError> {
        let authority = self.authority;
        match Limited::new(self.body, limit).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(HttpError::BodyTooLong { authority, limit }),
            Err(source) => Err(HttpError::Connection { authority, source }),
        }
    }

    /// The body as a stream of records of at most `limit` bytes. Dropping it closes the
    /// connection, unless a [`Connection`] still holds it.
    pub fn records(self, limit: usize) -> Records {
        Records {
            body: self.body,
            decoder: RecordDecoder::new(limit),
            buffer: BytesMut::new(),
            state: State::Open,
            _driver: self.driver,
        }
    }
}

/// The records of an event stream. It ends when the server ended it, and after an error.
#[derive(Debug)]
pub struct Records {
    body: Incoming,
    decoder: RecordDecoder,
    buffer: BytesMut,
    state: State,
    _driver: Arc<Driver>,
}

#[derive(Debug, PartialEq)]
enum State {
    Open,
    /// The server has sent all; the buffer may hold more records.
    Ended,
    Failed,
}

impl Stream for Records {
    type Item = Result<Bytes, RecordError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            let decoded = match this.state {
                State::Open => this.decoder.decode(&mut this.buffer),
                State::Ended => this.decoder.decode_eof(&mut this.buffer),
                State::Failed => return Poll::Ready(None),
            };
            match decoded {
                Ok(Some(record)) => return Poll::Ready(Some(Ok(record))),
                Ok(None) if this.state == State::Ended => return Poll::Ready(None),
                Ok(None) => {}
                Err(error) => {
                    this.state = State::Failed;
                    return Poll::Ready(Some(Err(error)));
                }
            }
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        this.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => {
                    this.state = State::Failed;
                    return Poll::Ready(Some(Err(io::Error::other(error).into())));
                }
                None => this.state = State::Ended,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_with_several_addresses_is_tried_address_by_address() {
        let listener = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
        let there = listener.local_addr().unwrap();
        // Nothing listens there: the port is ours on another address.
        let away = SocketAddr::from(([127, 0, 0, 3], there.port()));
        let limit = Duration::from_secs(5);
        let stream = connect_any("name:1", [away, there].into_iter(), limit).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), there);
        let error = connect_any("name:1", [away].into_iter(), limit).await.unwrap_err().to_string();
        assert!(error.starts_with("cannot connect to name:1: "), "{error}");
        let error = connect_any("name:1", [].into_iter(), limit).await.unwrap_err().to_string();
        assert_eq!(error, "cannot connect to name:1: the name has no address");
    }
}
