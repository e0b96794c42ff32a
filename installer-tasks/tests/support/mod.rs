//! What several tests need: the built program, and an agent that answers as Mesos 1.11 does.

#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these helpers are tests")]

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

pub mod cni;
pub mod docker;
pub mod etcd;
pub mod kill;
pub mod old;
pub mod plain;
pub mod systemd;

/// The program, with an empty environment: the tests' own must not set options.
pub fn installer() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_calico-installer"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// Standard output and error of a run, for assertions' messages.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Documents by their path, which change while they are served.
pub type Documents = Arc<Mutex<HashMap<&'static str, String>>>;

/// Serves fixed JSON documents by path; all else is 404.
pub fn serve(documents: HashMap<&'static str, String>) -> SocketAddr {
    serve_changing(Arc::new(Mutex::new(documents)))
}

/// Serves JSON documents by path, as they are when they are asked for; all else is 404.
pub fn serve_changing(documents: Documents) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            // A client that was killed is gone in the middle.
            let Some(Ok(request)) = lines.next() else { continue };
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let path = request.split(' ').nth(1).unwrap();
            let (status, body) = match documents.lock().unwrap().get(path).cloned() {
                Some(body) => ("200 OK", body),
                None => ("404 Not Found", String::new()),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            // A client that only wanted the head may be gone.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        }
    });
    address
}

/// An agent that answers with `documents` has another value of a flag from now on.
pub fn change_flag(documents: &Documents, name: &str, value: &str) {
    let mut documents = documents.lock().unwrap();
    let mut flags: serde_json::Value = serde_json::from_str(&documents["/flags"]).unwrap();
    flags["flags"][name] = value.into();
    documents.insert("/flags", flags.to_string());
}

/// Writes a file and gives the artifact option for it.
pub fn artifact(path: &Path, content: &[u8]) -> String {
    std::fs::write(path, content).unwrap();
    format!("{}#sha256={}", path.display(), calico_installer::host::files::sha256_hex(content))
}

/// Every path below `root`.
pub fn tree(root: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path.clone());
            }
            paths.push(path.strip_prefix(root).unwrap().to_owned());
        }
    }
    paths.sort();
    paths
}

/// Asserts how a run ended and what it said.
pub fn expect(output: &Output, code: i32, words: &[&str]) {
    let text = text(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
}

/// What is compared of a path: its kind, mode, owner and group, and a file's content.
pub type Found = (char, u32, u32, u32, Vec<u8>);

/// Every path below a root.
pub type Snapshot = BTreeMap<PathBuf, Found>;

/// Takes one.
pub fn snapshot(root: &Path) -> Snapshot {
    let look = |path: PathBuf| {
        let metadata = std::fs::symlink_metadata(root.join(&path)).unwrap();
        let (kind, content) = if metadata.is_dir() {
            ('d', Vec::new())
        } else if metadata.is_symlink() {
            ('l', std::fs::read_link(root.join(&path)).unwrap().into_os_string().into_encoded_bytes())
        } else {
            ('f', std::fs::read(root.join(&path)).unwrap())
        };
        (path, (kind, metadata.mode() & 0o7777, metadata.uid(), metadata.gid(), content))
    };
    tree(root).into_iter().map(look).collect()
}
