//! The one thing that we ask servers: GET, by address or unix socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

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
    let stream = TcpStream::connect_timeout(&server, LIMIT).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(LIMIT)).map_err(|error| error.to_string())?;
    ask(stream, &server.to_string(), path)
}

/// The JSON at `http://address:port/path`, for tests that look at masters and agents.
pub fn get_json(url: &str) -> crate::Result<serde_json::Value> {
    let invalid = || Error::Invalid(format!("'{url}' cannot be asked: write http://ADDRESS:PORT/PATH"));
    let (server, path) =
        url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).ok_or_else(invalid)?;
    let server = server.parse().map_err(|_| invalid())?;
    let body = get(server, &format!("/{path}")).map_err(Error::Invalid)?;
    serde_json::from_slice(&body).map_err(|error| Error::Invalid(format!("{url}: no JSON: {error}")))
}

/// The same over a unix socket.
pub(crate) fn get_unix(socket: &Path, path: &str) -> Result<Vec<u8>, String> {
    let said = |error: std::io::Error| format!("{}: {error}", socket.display());
    let stream = UnixStream::connect(socket).map_err(said)?;
    stream.set_read_timeout(Some(LIMIT)).map_err(said)?;
    ask(stream, "localhost", path)
        .and_then(only_200)
        .map_err(|error| format!("{}: {error}", socket.display()))
}

/// HTTP/1.0 in the request keeps the answer free of chunks, and its end is the end of the connection.
fn ask(mut stream: impl Read + Write, host: &str, path: &str) -> Result<(u16, Vec<u8>), String> {
    let request = format!(
        "GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
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
