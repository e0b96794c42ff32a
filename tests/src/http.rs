//! The one thing that we ask servers while they start: GET, by address or unix socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a server may take for an answer.
const LIMIT: Duration = Duration::from_secs(5);

/// The body of the answer 200 to `GET path`, or what came instead.
pub(crate) fn get(server: SocketAddr, path: &str) -> Result<Vec<u8>, String> {
    let said = |error: std::io::Error| format!("http://{server}{path}: {error}");
    let stream = TcpStream::connect_timeout(&server, LIMIT).map_err(said)?;
    stream.set_read_timeout(Some(LIMIT)).map_err(said)?;
    ask(stream, &server.to_string(), path).map_err(|error| format!("http://{server}{path}: {error}"))
}

/// The same over a unix socket.
pub(crate) fn get_unix(socket: &Path, path: &str) -> Result<Vec<u8>, String> {
    let said = |error: std::io::Error| format!("{}: {error}", socket.display());
    let stream = UnixStream::connect(socket).map_err(said)?;
    stream.set_read_timeout(Some(LIMIT)).map_err(said)?;
    ask(stream, "localhost", path).map_err(|error| format!("{}: {error}", socket.display()))
}

/// HTTP/1.0 in the request keeps the answer free of chunks, and its end is the end of the connection.
fn ask(mut stream: impl Read + Write, host: &str, path: &str) -> Result<Vec<u8>, String> {
    let request = format!(
        "GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|error| error.to_string())?;
    parse(&answer)
}

fn parse(answer: &[u8]) -> Result<Vec<u8>, String> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or("the answer broke off")?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") {
        Ok(answer[end + 4..].to_vec())
    } else {
        Err(status.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_200_has_a_body() {
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n{}").unwrap(), b"{}");
        assert_eq!(parse(b"HTTP/1.1 503 Busy\r\n\r\n{}").unwrap_err(), "HTTP/1.1 503 Busy");
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n").unwrap_err(), "the answer broke off");
    }
}
