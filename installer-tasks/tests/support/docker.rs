//! A Docker of a version that hosts here do not have, and that says what it is told to say.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// A version of Docker, and of its API: `1.` and this.
#[derive(Debug, Clone, Copy)]
pub struct Version {
    /// `20.10.24`.
    pub docker: &'static str,
    /// Its API.
    pub api: u32,
}

/// Before daemon.json had a cluster store.
pub const V1_9: Version = Version { docker: "1.9.1", api: 21 };
/// That of most hosts.
pub const V20_10: Version = Version { docker: "20.10.24", api: 41 };
/// The first one without cluster stores.
pub const V23: Version = Version { docker: "23.0.6", api: 42 };

/// What it was asked for, in order: `DELETE /containers/c1?v=true`.
pub type Asked = Arc<Mutex<Vec<String>>>;

/// Serves `answer` on a socket: a status and a document for what is asked for, beside what it says of itself; 404 for none.
pub fn serve(
    socket: &Path,
    version: Version,
    answer: impl Fn(&str) -> Option<(u16, Value)> + Send + 'static,
) -> Asked {
    let listener = UnixListener::bind(socket).unwrap();
    let asked = Asked::default();
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let Some(Ok(request)) = lines.next() else { continue };
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let words: Vec<&str> = request.split(' ').take(2).collect();
            let request = words.join(" ");
            let absent = || (404, json!({ "message": "there is none" }));
            let (status, body) =
                of_itself(version, &request).or_else(|| answer(&request)).unwrap_or_else(absent);
            log.lock().unwrap().push(request);
            let body = if status == 204 { String::new() } else { body.to_string() };
            let head = format!(
                "HTTP/1.1 {status} so\r\nContent-Type: application/json\r\nConnection: close\r\n\
                 Content-Length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        }
    });
    asked
}

fn of_itself(Version { docker, api }: Version, request: &str) -> Option<(u16, Value)> {
    let document = match request {
        "GET /version" => json!({ "Version": docker, "ApiVersion": format!("1.{api}") }),
        "GET /info" => {
            let mut said = json!({ "ServerVersion": docker });
            // Swarms came with 1.12; cluster stores were told of from 1.9 to 20.10.
            if api > 23 {
                said["Swarm"] = json!({ "LocalNodeState": "inactive" });
            }
            if api < 42 {
                said["ClusterStore"] = "".into();
                said["ClusterAdvertise"] = "".into();
            }
            said
        }
        _ => return None,
    };
    Some((200, document))
}
