//! What servers are asked: GET, by address or unix socket, and an operator's POST.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::error::Error;

/// How long a server may take for an answer.
const LIMIT: Duration = Duration::from_secs(5);

/// The body of the answer 200 to `GET path`, or what came instead.
pub(crate) fn get(server: SocketAddr, path: &str) -> Result<Vec<u8>, String> {
    let answer = request(server, path).and_then(only_200);
    answer.map_err(|error| format!("http://{server}{path}: {error}"))
}

/// Status code and body of the answer to `GET path`.
pub(crate) fn request(server: SocketAddr, path: &str) -> Result<(u16, Vec<u8>), String> {
    exchange(server, &format!("GET {path}"), "", "", LIMIT)
}

/// The JSON at `http://address:port/path`, for tests that look at masters and agents; as somebody, when it is
/// `http://principal:secret@address:port/path`.
pub fn get_json(url: &str) -> crate::Result<serde_json::Value> {
    get_json_within(url, LIMIT)
}

/// The same for servers that may be cut off: each step takes at most `limit`.
pub fn get_json_within(url: &str, limit: Duration) -> crate::Result<serde_json::Value> {
    let (server, authorization, path) = parts(url)?;
    let answer = exchange(server, &format!("GET {path}"), &authorization, "", limit).and_then(only_200);
    let body = answer.map_err(|error| Error::Invalid(format!("{url}: {error}")))?;
    serde_json::from_slice(&body).map_err(|error| Error::Invalid(format!("{url}: no JSON: {error}")))
}

/// POSTs JSON to a URL as `get_json` has it, as operators do; the answer must be a success.
pub fn post_json(url: &str, body: &serde_json::Value) -> crate::Result<()> {
    let (server, authorization, path) = parts(url)?;
    match exchange(server, &format!("POST {path}"), &authorization, &body.to_string(), LIMIT) {
        Ok((200..=299, _)) => Ok(()),
        Ok((status, said)) => {
            Err(Error::Invalid(format!("{url}: {status}: {}", String::from_utf8_lossy(&said))))
        }
        Err(error) => Err(Error::Invalid(format!("{url}: {error}"))),
    }
}

/// The server, the `Authorization` header and the path of a URL.
fn parts(url: &str) -> crate::Result<(SocketAddr, String, String)> {
    let invalid = || Error::Invalid(format!("'{url}' cannot be asked: write http://ADDRESS:PORT/PATH"));
    let (server, path) =
        url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).ok_or_else(invalid)?;
    let (who, server) = server.rsplit_once('@').map_or((None, server), |(who, server)| (Some(who), server));
    let authorization = who
        .map(|who| format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(who)))
        .unwrap_or_default();
    Ok((server.parse().map_err(|_| invalid())?, authorization, format!("/{path}")))
}

fn exchange(
    server: SocketAddr,
    request: &str,
    headers: &str,
    body: &str,
    limit: Duration,
) -> Result<(u16, Vec<u8>), String> {
    let stream = TcpStream::connect_timeout(&server, limit).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(limit)).map_err(|error| error.to_string())?;
    ask(stream, &server.to_string(), request, headers, body)
}

/// The same over a unix socket.
pub(crate) fn get_unix(socket: &Path, path: &str) -> Result<Vec<u8>, String> {
    let said = |error: std::io::Error| format!("{}: {error}", socket.display());
    let stream = UnixStream::connect(socket).map_err(said)?;
    stream.set_read_timeout(Some(LIMIT)).map_err(said)?;
    ask(stream, "localhost", &format!("GET {path}"), "", "")
        .and_then(only_200)
        .map_err(|error| format!("{}: {error}", socket.display()))
}

/// HTTP/1.0 in the request keeps the answer free of chunks, and its end is the end of the connection.
fn ask(
    mut stream: impl Read + Write,
    host: &str,
    request: &str,
    headers: &str,
    body: &str,
) -> Result<(u16, Vec<u8>), String> {
    let length = if body.is_empty() {
        String::new()
    } else {
        format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
    };
    let request = format!(
        "{request} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\nConnection: close\r\n{headers}{length}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|error| error.to_string())?;
    parse(&answer)
}

fn parse(answer: &[u8]) -> Result<(u16, Vec<u8>), String> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or("the answer broke off")?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let line = head.lines().next().unwrap_or_default();
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| format!("'{line}' is not HTTP"))?, answer[end + 4..].to_vec()))
}

fn only_200((status, body): (u16, Vec<u8>)) -> Result<Vec<u8>, String> {
    if status == 200 { Ok(body) } else { Err(format!("status {status}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_200_has_a_body() {
        let body = |answer| parse(answer).and_then(only_200);
        assert_eq!(body(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n{}").unwrap(), b"{}");
        assert_eq!(body(b"HTTP/1.1 503 Busy\r\n\r\n{}").unwrap_err(), "status 503");
        assert_eq!(body(b"HTTP/1.1 200 OK\r\n").unwrap_err(), "the answer broke off");
        assert_eq!(body(b"SSH-2.0\r\n\r\n").unwrap_err(), "'SSH-2.0' is not HTTP");
    }
}
