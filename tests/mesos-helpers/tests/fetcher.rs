//! The fetcher as a real process, with real servers, archives and a cache.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    fs,
    io::{Cursor, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::Output,
};

use axum::{Router, response::Redirect, routing::get};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    process::Command,
};

struct Fetch {
    folder: TempDir,
    info: Value,
}

impl Fetch {
    fn new(items: &[Value]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sandbox")).unwrap();
        let info = json!({
            "sandbox_directory": folder.path().join("sandbox"),
            "cache_directory": folder.path().join("cache"),
            "items": items,
        });
        Self { folder, info }
    }

    fn sandbox(&self) -> std::path::PathBuf {
        self.folder.path().join("sandbox")
    }

    async fn run(&self) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesos-fetcher"));
        // No programs of the host are needed.
        command.env_clear().env("MESOS_FETCHER_INFO", self.info.to_string());
        command.output().await.unwrap()
    }

    async fn succeeds(&self) -> &Self {
        let output = self.run().await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self
    }

    /// Runs into an error, which it tells.
    async fn fails(&self, message: &str) {
        let output = self.run().await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(message), "{stderr}");
    }

    fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        list(&self.sandbox(), "", &mut files);
        files.sort();
        files
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.sandbox().join(file)).unwrap()
    }
}

fn list(folder: &Path, prefix: &str, files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            list(&entry.path(), &format!("{name}/"), files);
        } else {
            files.push(name);
        }
    }
}

fn item(uri: impl Into<Value>) -> Value {
    let uri = uri.into();
    json!({"action": "BYPASS_CACHE", "uri": uri})
}

/// A directory of sources with a plain file `plain`.
fn sources() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("plain"), "content").unwrap();
    folder
}

async fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/files/tool", get(|| async { "#!/bin/sh\n" }))
        .route("/moved/tool", get(|| async { Redirect::temporary("/moved-again/tool") }))
        .route("/moved-again/tool", get(|| async { Redirect::permanent("/files/tool") }))
        .route("/loop", get(|| async { Redirect::temporary("/loop") }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

#[tokio::test]
async fn paths_and_file_uris_and_modes() {
    let sources = sources();
    let path = sources.path().join("plain").display().to_string();
    let fetch = Fetch::new(&[
        item(json!({"value": path})),
        item(json!({"value": format!("file://{path}"), "executable": true, "output_file": "bin/deep/run"})),
        item(json!({"value": format!("file://localhost{path}"), "output_file": "third"})),
    ]);
    fetch.succeeds().await;
    assert_eq!(fetch.files(), ["bin/deep/run", "plain", "third"]);
    assert_eq!(fetch.read("plain"), "content");
    let mode = |file| fs::metadata(fetch.sandbox().join(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("plain"), mode("bin/deep/run")), (0o644, 0o755));
}

#[tokio::test]
async fn http_with_redirects() {
    let server = serve().await;
    let fetch = Fetch::new(&[
        item(json!({"value": format!("{server}/files/tool"), "executable": true})),
        item(json!({"value": format!("{server}/moved/tool?v=1"), "output_file": "moved"})),
    ]);
    fetch.succeeds().await;
    assert_eq!(fetch.files(), ["moved", "tool"]);
    assert_eq!(fetch.read("tool"), "#!/bin/sh\n");
    assert_eq!(fetch.read("moved"), "#!/bin/sh\n");
}

#[tokio::test]
async fn what_cannot_be_had_is_said_and_leaves_no_file() {
    let server = serve().await;
    for (value, message) in [
        (format!("{server}/absent"), "received HTTP return code 404 Not Found"),
        (format!("{server}/loop"), "bad redirect"),
        ("http://127.0.0.1:1/x".to_owned(), "cannot connect to 127.0.0.1:1"),
        ("https://h/x".to_owned(), "expected http://"),
        ("/no/such/file".to_owned(), "cannot read /no/such/file: No such file"),
        ("relative".to_owned(), "frameworks home"),
        ("http://h".to_owned(), "malformed URI"),
    ] {
        let fetch = Fetch::new(&[item(json!({"value": value}))]);
        fetch.fails(message).await;
        fetch.fails(&format!("failed to fetch '{value}'")).await;
        assert_eq!(fetch.files(), [""; 0]);
    }
    for output_file in ["/etc/x", "../x", "a/../../x"] {
        let fetch = Fetch::new(&[item(json!({"value": "/etc/hostname", "output_file": output_file}))]);
        fetch.fails(&format!("output file '{output_file}'")).await;
    }
}

#[tokio::test]
async fn a_download_that_breaks_or_stalls_leaves_no_file() {
    for (close, message) in [(true, "the connection to"), (false, "nothing arrived for 200ms")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.read(&mut [0; 4096]).await.unwrap();
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await.unwrap();
            if !close {
                std::future::pending::<()>().await;
            }
        });
        let mut fetch = Fetch::new(&[item(json!({"value": format!("http://{address}/f")}))]);
        fetch.info["stall_timeout"] = json!({"nanoseconds": 200_000_000});
        fetch.fails(message).await;
        assert_eq!(fetch.files(), [""; 0]);
    }
}

fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn archive(name: &str) -> Vec<u8> {
    let tar = tar_of(&[("tool-1/bin/tool", "content"), ("tool-1/README", "read me")]);
    match name.rsplit('.').next().unwrap() {
        "tar" => tar,
        "gz" | "tgz" => gzip(&tar),
        "bz2" | "tbz2" => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(&tar).unwrap();
            encoder.finish().unwrap()
        }
        "xz" | "txz" => {
            let mut encoder =
                lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
            encoder.write_all(&tar).unwrap();
            encoder.finish().unwrap()
        }
        "zip" => {
            let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
            let options = zip::write::SimpleFileOptions::default().unix_permissions(0o755);
            writer.start_file("tool-1/bin/tool", options).unwrap();
            writer.write_all(b"content").unwrap();
            writer.start_file("tool-1/README", options).unwrap();
            writer.write_all(b"read me").unwrap();
            writer.finish().unwrap().into_inner()
        }
        other => panic!("no archive {other}"),
    }
}

const ARCHIVES: [&str; 8] =
    ["a.tar", "a.tgz", "a.tar.gz", "a.tbz2", "a.tar.bz2", "a.txz", "a.tar.xz", "a.zip"];

#[tokio::test]
async fn archives_of_every_kind_are_extracted_unless_told_otherwise() {
    let sources = sources();
    for name in ARCHIVES {
        let path = sources.path().join(name);
        fs::write(&path, archive(name)).unwrap();
        let fetch = Fetch::new(&[item(json!({"value": path}))]);
        fetch.succeeds().await;
        assert_eq!(fetch.files(), [name, "tool-1/README", "tool-1/bin/tool"]);
        assert_eq!(fetch.read("tool-1/bin/tool"), "content");
        let mode = fs::metadata(fetch.sandbox().join("tool-1/bin/tool")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "{name}");

        for flags in [json!({"extract": false}), json!({"executable": true})] {
            let mut uri = flags;
            uri["value"] = json!(path);
            let fetch = Fetch::new(&[item(uri)]);
            fetch.succeeds().await;
            assert_eq!(fetch.files(), [name]);
        }
    }
    let path = sources.path().join("notes.txt.gz");
    fs::write(&path, gzip(b"notes")).unwrap();
    let fetch = Fetch::new(&[item(json!({"value": path}))]);
    fetch.succeeds().await;
    assert_eq!(fetch.read("notes.txt"), "notes");
}

#[tokio::test]
async fn an_archive_joins_directories_that_are_there() {
    let sources = sources();
    for (name, file) in [("a.tar", "shared/one"), ("b.tar", "shared/two")] {
        fs::write(sources.path().join(name), tar_of(&[(file, file)])).unwrap();
    }
    let value = |name| json!({"value": sources.path().join(name), "output_file": format!("in/{name}")});
    let fetch = Fetch::new(&[item(value("a.tar")), item(value("b.tar"))]);
    fetch.succeeds().await;
    assert_eq!(fetch.files(), ["in/a.tar", "in/b.tar", "shared/one", "shared/two"]);
}

#[tokio::test]
async fn corrupt_archives_fail_and_leave_nothing_extracted() {
    let sources = sources();
    for name in ARCHIVES.iter().filter(|name| **name != "a.tar") {
        let path = sources.path().join(name);
        let mut data = archive(name);
        data.truncate(data.len() / 2);
        fs::write(&path, data).unwrap();
        let fetch = Fetch::new(&[item(json!({"value": path}))]);
        fetch.fails("failed to extract archive").await;
        assert_eq!(fetch.files(), [*name]);
    }
}

#[tokio::test]
async fn an_archive_cannot_write_outside_the_sandbox() {
    let sources = sources();
    let path = sources.path().join("evil.tar");
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    header.as_old_mut().name[..7].copy_from_slice(b"../evil");
    header.set_cksum();
    builder.append(&header, &b"x"[..]).unwrap();
    fs::write(&path, builder.into_inner().unwrap()).unwrap();
    let fetch = Fetch::new(&[item(json!({"value": path}))]);
    fetch.fails("it holds '../evil', which lies outside").await;
    assert!(!fetch.folder.path().join("evil").exists());
}

#[tokio::test]
async fn the_cache_is_filled_and_used() {
    let sources = sources();
    let plain = sources.path().join("plain");
    let cached = |action: &str, uri: Value| json!({"action": action, "cache_filename": "c1", "uri": uri});
    let uri = json!({"value": plain, "executable": true});
    let mut fetch = Fetch::new(&[cached("DOWNLOAD_AND_CACHE", uri.clone())]);
    fetch.succeeds().await;
    assert_eq!(fs::read_to_string(fetch.folder.path().join("cache/c1")).unwrap(), "content");
    let mode = fs::metadata(fetch.sandbox().join("plain")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);

    // What is in the cache is used, not the source.
    fs::remove_file(&plain).unwrap();
    fs::remove_file(fetch.sandbox().join("plain")).unwrap();
    fetch.info["items"] = json!([cached("RETRIEVE_FROM_CACHE", uri.clone())]);
    fetch.succeeds().await;
    assert_eq!(fetch.read("plain"), "content");

    fetch.info["items"] = json!([{"action": "RETRIEVE_FROM_CACHE", "uri": uri}]);
    fetch.fails("no cache file name").await;
}

#[tokio::test]
async fn from_the_cache_only_the_contents_of_an_archive_are_taken() {
    let sources = sources();
    let path = sources.path().join("a.tar.gz");
    fs::write(&path, archive("a.tar.gz")).unwrap();
    let item =
        json!({"action": "DOWNLOAD_AND_CACHE", "cache_filename": "c1-a.tar.gz", "uri": {"value": path}});
    let fetch = Fetch::new(&[item]);
    fetch.succeeds().await;
    assert_eq!(fetch.files(), ["tool-1/README", "tool-1/bin/tool"]);
}

#[tokio::test]
async fn files_belong_to_the_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let sources = sources();
    let path = sources.path().join("a.tar");
    fs::write(&path, archive("a.tar")).unwrap();
    let mut fetch = Fetch::new(&[item(json!({"value": path, "output_file": "in/a.tar"}))]);
    fetch.info["user"] = json!("nobody");
    fetch.succeeds().await;
    let owner = fs::read_to_string("/etc/passwd").unwrap();
    let owner = owner.lines().find(|line| line.starts_with("nobody:")).unwrap();
    let owner: u32 = owner.split(':').nth(2).unwrap().parse().unwrap();
    for file in ["in", "in/a.tar", "tool-1", "tool-1/bin", "tool-1/bin/tool"] {
        assert_eq!(fs::metadata(fetch.sandbox().join(file)).unwrap().uid(), owner, "{file}");
    }
    fetch.info["user"] = json!("no-such-user");
    fetch.fails("no user 'no-such-user'").await;
}

#[tokio::test]
async fn without_or_with_a_bad_description() {
    let mut fetch = Fetch::new(&[]);
    fetch.info = json!({"items": []});
    fetch.fails("failed to parse MESOS_FETCHER_INFO: missing field `sandbox_directory`").await;
    let output = Command::new(env!("CARGO_BIN_EXE_mesos-fetcher")).env_clear().output().await.unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("missing MESOS_FETCHER_INFO"));
}
