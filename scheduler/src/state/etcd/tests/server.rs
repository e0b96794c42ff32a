//! Real etcds, each of a test's own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

use super::super::*;
use super::LASTING;
use crate::config::{EtcdLocation, EtcdTls};

/// An etcd of a test's own; it ends with it.
pub(super) struct Server {
    child: Child,
    pub location: EtcdLocation,
    peer: String,
    flags: Vec<String>,
    dir: TempDir,
}

/// `etcd`, or `etcdctl` beside it.
fn program(name: &str) -> Command {
    let etcd = std::env::var_os("ETCD_BINARY").expect("ETCD_BINARY names etcd");
    let mut command = Command::new(Path::new(&etcd).with_file_name(name));
    command.env("ETCDCTL_API", "3").stdout(Stdio::null()).stderr(Stdio::null());
    command
}

impl Server {
    pub async fn start(flags: &[&str]) -> Self {
        Self::start_with(flags, None).await
    }

    /// With these certificates for its clients; flags say what it wants of them.
    pub async fn start_with(flags: &[&str], tls: Option<EtcdTls>) -> Self {
        let server = Self::start_unseen(flags, tls);
        server.answers().await;
        server
    }

    /// Not waiting for its answer.
    pub fn start_unseen(flags: &[&str], tls: Option<EtcdTls>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Both are free at once, so they differ; who listens on 127.0.0.1 else asks the kernel, too.
        let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [client, peer] = free.map(|listener| listener.local_addr().unwrap().to_string());
        let location = EtcdLocation { members: vec![client], user: None, tls, prefix: "/test".to_owned() };
        let peer = format!("http://{peer}");
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let child = spawn(&location, &peer, &flags, &dir.path().join("data"));
        Self { child, location, peer, flags, dir }
    }

    pub async fn answers(&self) {
        let started = Instant::now();
        while self.revision().await.is_none() {
            assert!(started.elapsed() < Duration::from_secs(30), "etcd does not start");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again, at the same addresses, with what is in `data`.
    pub async fn restart(&mut self, data: &Path) {
        self.end();
        self.child = spawn(&self.location, &self.peer, &self.flags, data);
        self.answers().await;
    }

    /// Where a file of the test's own may be.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `etcdctl` with these arguments.
    pub fn ctl(&self, arguments: &[&str]) {
        let endpoints = format!("--endpoints={}", self.location.members[0]);
        let done = program("etcdctl").arg(endpoints).args(arguments).status();
        assert!(done.unwrap().success(), "{arguments:?}");
    }

    /// Writes a snapshot.
    pub fn save(&self, snapshot: &Path) {
        self.ctl(&["snapshot", "save", snapshot.to_str().unwrap()]);
    }

    /// Goes on with what a snapshot holds, as a cluster of this token.
    pub async fn restore(&mut self, snapshot: &Path, token: &str) {
        let data = self.path(&format!("restored-{token}"));
        let restored = program("etcdctl")
            .args(["snapshot", "restore"])
            .arg(snapshot)
            .arg("--data-dir")
            .arg(&data)
            .args(["--name", "default", "--initial-cluster-token", token])
            .args(["--initial-cluster", &format!("default={}", self.peer)])
            .args(["--initial-advertise-peer-urls", &self.peer])
            .status();
        assert!(restored.unwrap().success());
        self.restart(&data).await;
    }

    /// For what the store never does.
    pub async fn client(&self) -> Result<etcd_client::Client, StoreError> {
        Client::new(self.location.clone()).connected().await
    }

    /// etcd's revision: every write raises it.
    pub async fn revision(&self) -> Option<i64> {
        let client = Client::new(self.location.clone());
        Some(bounded(&client, client.range(Range::of("none".to_owned()))).await.ok()?.header.revision)
    }

    pub fn candidate(&self, holder: &str) -> Candidate<Client> {
        candidate(&self.location, holder)
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

pub(super) fn candidate(location: &EtcdLocation, holder: &str) -> Candidate<Client> {
    Candidate::new(Client::new(location.clone()), &location.prefix, "team/calico", holder).lasting(LASTING)
}

fn spawn(location: &EtcdLocation, peer: &str, flags: &[String], data: &Path) -> Child {
    let scheme = if location.tls.is_some() { "https" } else { "http" };
    let client = format!("{scheme}://{}", location.members[0]);
    program("etcd")
        .arg("--data-dir")
        .arg(data)
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
        .args(["--initial-cluster", &format!("default={peer}"), "--log-level", "error"])
        .args(flags)
        .spawn()
        .unwrap()
}
