//! Why etcd's members do not answer: its client tries on and on, and tells nothing.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{CertificateError, Error as TlsError};

use crate::config::{EtcdLocation, EtcdTls};

const CONNECT: Duration = Duration::from_secs(3);
/// A member that takes us sends its settings at once; a refusal comes as fast.
const ANSWER: Duration = Duration::from_secs(3);
/// What a client of HTTP/2 begins with (RFC 9113, 3.4): the preface, and settings that change nothing.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
/// How a record of TLS begins that refuses (RFC 8446, 5.1: an alert).
const ALERT: u8 = 21;

/// What is wrong with the members, those that something is wrong with.
pub(super) async fn look(location: &EtcdLocation) -> Option<String> {
    let looks = location.members.iter().map(|member| async move {
        let wrong = match &location.tls {
            None => plain(member).await,
            Some(tls) => encrypted(member, tls).await,
        };
        wrong.map(|wrong| format!("{member} {wrong}"))
    });
    let wrong: Vec<String> = join_all(looks).await.into_iter().flatten().collect();
    if wrong.is_empty() { None } else { Some(wrong.join("; ")) }
}

async fn connect(member: &str) -> Result<TcpStream, String> {
    match timeout(CONNECT, TcpStream::connect(member)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("cannot be reached: {error}")),
        Err(_) => Err("cannot be reached: it does not answer".to_owned()),
    }
}

async fn plain(member: &str) -> Option<String> {
    let mut stream = match connect(member).await {
        Ok(stream) => stream,
        Err(wrong) => return Some(wrong),
    };
    match first_byte(&mut stream).await {
        // Settings are longer than 0 bytes and shorter than 65536: the first byte of a frame of theirs is 0.
        Some(Ok(Some(0))) => None,
        Some(Ok(Some(ALERT | b'H') | None) | Err(_)) => {
            Some("takes no connection without TLS: service.state must begin with etcds://".to_owned())
        }
        Some(Ok(Some(_))) => Some("is no etcd".to_owned()),
        None => Some("accepts connections, and does not answer".to_owned()),
    }
}

async fn encrypted(member: &str, tls: &EtcdTls) -> Option<String> {
    let stream = match connect(member).await {
        Ok(stream) => stream,
        Err(wrong) => return Some(wrong),
    };
    let host = member.rsplit_once(':').map_or(member, |(host, _)| host);
    // All three were checked when the options were.
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).ok()?;
    let client = tls.client().ok()?;
    let handshake = timeout(CONNECT, TlsConnector::from(Arc::new(client)).connect(name, stream));
    let mut stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Some(refusal(&error, tls)),
        Err(_) => return Some("does not answer with TLS".to_owned()),
    };
    // With TLS 1.3 a certificate of ours is refused after the handshake.
    match first_byte(&mut stream).await {
        Some(Ok(Some(0))) => None,
        Some(Err(error)) => Some(refusal(&error, tls)),
        Some(Ok(Some(_))) => Some("is no etcd".to_owned()),
        Some(Ok(None)) => Some("closes the connection".to_owned()),
        None => Some("agrees on TLS, and does not answer".to_owned()),
    }
}

/// The first byte of an answer; none inside: the connection was closed.
async fn first_byte(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Option<io::Result<Option<u8>>> {
    let mut byte = [0];
    let read = async {
        stream.write_all(PREFACE).await?;
        stream.flush().await?;
        Ok((stream.read(&mut byte).await? == 1).then_some(()))
    };
    let read: io::Result<Option<()>> = timeout(ANSWER, read).await.ok()?;
    Some(read.map(|read| read.map(|()| byte[0])))
}

/// What to do about a connection that TLS did not come to.
fn refusal(error: &io::Error, tls: &EtcdTls) -> String {
    let advice = match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        // An authority of the same name, and of another key, makes a signature wrong.
        Some(TlsError::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) if tls.ca.is_some() => "its certificate is of none of the authorities in service.state-ca-file",
        Some(TlsError::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "its certificate is of no public authority: name its own in service.state-ca-file"
        }
        Some(TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "its certificate is for other names: service.state must name it by one of those",
        Some(TlsError::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => "its certificate has expired; or this machine's clock is wrong",
        Some(TlsError::AlertReceived(_)) if tls.identity.is_some() => {
            "it refuses the certificate of service.state-cert-file: that must be of an authority that etcd trusts \
             (--trusted-ca-file), for the use of clients, and not have expired"
        }
        Some(TlsError::AlertReceived(_)) => {
            "it wants a certificate of ours: give service.state-cert-file and service.state-key-file"
        }
        Some(TlsError::InvalidCertificate(_)) => "its certificate is not one to trust",
        Some(TlsError::InvalidMessage(_)) => "it does not speak TLS: service.state must begin with etcd://",
        _ => {
            return format!(
                "breaks off when TLS begins: if it does not speak it, service.state must begin with etcd:// ({error})"
            );
        }
    };
    format!("and this scheduler do not agree on TLS: {advice} ({error})")
}
