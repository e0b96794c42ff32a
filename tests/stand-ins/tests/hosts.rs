//! The stand-ins together: two hosts in network namespaces, a real etcd, containers that are namespaces too.
//!
//! Wants root, iproute2, util-linux, and in `ETCD_BINARY` the path of etcd; so it is ignored unless asked for:
//! `ETCD_BINARY=/usr/bin/etcd cargo test -p calico-stand-ins --test hosts -- --ignored`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use tempfile::TempDir;

const ETCD: &str = "http://10.99.78.1:2379";
const HOSTS: [&str; 2] = ["a", "b"];

/// Everything that a test made; gone when it is dropped.
struct Rig {
    prefix: String,
    namespaces: Vec<String>,
    children: Vec<(String, Child)>,
    directory: TempDir,
}

impl Rig {
    fn new(name: &str, containers: &[&str]) -> Self {
        let mut rig = Self {
            prefix: format!("standins-{name}-{}", std::process::id()),
            namespaces: Vec::new(),
            children: Vec::new(),
            directory: tempfile::tempdir().unwrap(),
        };
        let net = rig.add_namespace("net");
        ip(&["-n", &net, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &net, "address", "add", "10.99.78.1/24", "dev", "br0"]);
        ip(&["-n", &net, "link", "set", "br0", "up"]);
        for (number, host) in HOSTS.iter().enumerate() {
            let host = rig.add_namespace(host);
            let port = format!("port{number}");
            ip(&["-n", &net, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &host]);
            ip(&["-n", &net, "link", "set", &port, "master", "br0", "up"]);
            ip(&["-n", &host, "address", "add", &format!("10.99.78.{}/24", 11 + number), "dev", "eth0"]);
            ip(&["-n", &host, "link", "set", "eth0", "up"]);
            rig.within(HOSTS[number], || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
        }
        for container in containers {
            rig.add_namespace(container);
        }
        rig.start_etcd();
        rig
    }

    fn name(&self, short: &str) -> String {
        format!("{}-{short}", self.prefix)
    }

    fn add_namespace(&mut self, short: &str) -> String {
        let name = self.name(short);
        ip(&["netns", "add", &name]);
        self.namespaces.push(name.clone());
        ip(&["-n", &name, "link", "set", "lo", "up"]);
        name
    }

    /// Runs on a thread in the namespace.
    fn within<T: Send>(&self, short: &str, act: impl FnOnce() -> T + Send) -> T {
        let path = Path::new("/run/netns").join(self.name(short));
        std::thread::scope(|scope| {
            let run = scope.spawn(move || {
                let namespace = File::open(path).unwrap();
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                act()
            });
            run.join().unwrap()
        })
    }

    fn spawn(&mut self, namespace: &str, name: &str, command: &mut Command) {
        let log = File::create(self.directory.path().join(name)).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let child = self.within(namespace, || command.spawn().unwrap());
        self.children.push((name.to_owned(), child));
    }

    fn start_etcd(&mut self) {
        let binary = std::env::var_os("ETCD_BINARY").expect("ETCD_BINARY names etcd");
        let peer = "http://10.99.78.1:2380";
        let mut command = Command::new(binary);
        command.arg("--data-dir").arg(self.directory.path().join("etcd-data"));
        command.args(["--listen-client-urls", ETCD, "--advertise-client-urls", ETCD]);
        command.args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]);
        command.args(["--initial-cluster", &format!("default={peer}")]);
        self.spawn("net", "etcd", &mut command);
    }

    /// With the host's directories mounted, in a mount namespace of its own.
    fn start_node(&mut self, host: &str) {
        let index = HOSTS.iter().position(|name| *name == host).unwrap();
        let state = self.directory.path().join(format!("state-{host}"));
        for part in ["modules", "run", "lib", "log"] {
            std::fs::create_dir_all(state.join(part)).unwrap();
        }
        let script = "set -e; mkdir -p /lib/modules; mount --bind \"$0/modules\" /lib/modules; \
            mount -t tmpfs none /var; \
            for part in run lib log; do \
                mkdir -p /var/$part/calico; mount --bind \"$0/$part\" /var/$part/calico; done; exec \"$1\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(&state).arg(env!("CARGO_BIN_EXE_calico-node"));
        command.env_clear().envs([
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            ("NODENAME", format!("host-{host}").as_str()),
            ("IP", format!("10.99.78.{}", 11 + index).as_str()),
            ("ETCD_ENDPOINTS", ETCD),
            ("CALICO_NETWORKING_BACKEND", "bird"),
            ("DATASTORE_TYPE", "etcdv3"),
            ("NO_DEFAULT_POOLS", "true"),
            ("FELIX_HEALTHENABLED", "true"),
            ("FELIX_IGNORELOOSERPF", "true"),
        ]);
        self.spawn(host, &format!("node-{host}"), &mut command);
    }

    fn child(&mut self, name: &str) -> &mut Child {
        let found = self.children.iter_mut().find(|(other, _)| other == name);
        &mut found.unwrap_or_else(|| panic!("{name} was not started")).1
    }

    fn stop(&mut self, name: &str) {
        let child = self.child(name);
        child.kill().unwrap();
        child.wait().unwrap();
        self.children.retain(|(other, _)| other != name);
    }

    /// Calls a plugin as Mesos does, with the host's file systems as its node sees them.
    fn cni(&self, program: &str, host: &str, action: &str, container: &str) -> Result<Value, Value> {
        let node = &self.children.iter().find(|(name, _)| *name == format!("node-{host}")).unwrap().1;
        let config = json!({
            "name": "calico", "cniVersion": "0.1.0", "type": "calico", "ipam": {"type": "calico-ipam"},
            "etcd_endpoints": ETCD, "mtu": 1410, "args": {"org.apache.mesos": {"network_info": {}}}
        });
        let program = PathBuf::from(program);
        let mut child = Command::new("nsenter")
            .args(["--target", &node.id().to_string(), "--mount", "--net"])
            .arg(&program)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("CNI_COMMAND", action)
            .env("CNI_CONTAINERID", container)
            .env("CNI_NETNS", Path::new("/run/netns").join(self.name(container)))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", program.parent().unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
        let Output { status, stdout, .. } = child.wait_with_output().unwrap();
        let answer = if stdout.is_empty() { Value::Null } else { serde_json::from_slice(&stdout).unwrap() };
        if status.success() { Ok(answer) } else { Err(answer) }
    }

    fn calico(&self, host: &str, action: &str, container: &str) -> Result<Value, Value> {
        self.cni(env!("CARGO_BIN_EXE_calico"), host, action, container)
    }

    fn calicoctl(&self, resources: &Value) {
        let file = self.directory.path().join("resources.json");
        std::fs::write(&file, resources.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_calicoctl"));
        command.args(["apply", "-f"]).arg(file).env("DATASTORE_TYPE", "etcdv3").env("ETCD_ENDPOINTS", ETCD);
        assert!(self.within("net", || command.status().unwrap()).success());
    }

    fn pool_and_profile(&self) {
        let version = "projectcalico.org/v3";
        self.calicoctl(&json!([
            {"kind": "IPPool", "apiVersion": version, "metadata": {"name": "calico"},
             "spec": {"cidr": "10.222.0.0/16"}},
            {"kind": "Profile", "apiVersion": version, "metadata": {"name": "calico"},
             "spec": {"ingress": [{"action": "Allow"}], "egress": [{"action": "Allow"}]}}
        ]));
    }

    fn await_readiness(&self, host: &str, expected: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let probe = || {
            let mut stream = TcpStream::connect("127.0.0.1:9099").ok()?;
            let request = b"GET /readiness HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            stream.write_all(request).ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            Some(answer)
        };
        loop {
            let answer = self.within(host, probe);
            if answer.as_ref().is_some_and(|answer| answer.starts_with(expected)) {
                return;
            }
            assert!(Instant::now() < deadline, "readiness of {host} is {answer:?}, not {expected}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn routes(&self, host: &str) -> String {
        ip(&["-n", &self.name(host), "route", "show", "proto", "80"])
    }

    /// The address by which `server` sees `client`.
    fn seen_from(&self, client: &str, server: &str, address: Ipv4Addr) -> std::io::Result<Ipv4Addr> {
        let listener = self.within(server, || TcpListener::bind((address, 0)).unwrap());
        let target: SocketAddr = listener.local_addr()?;
        let _stream = self.within(client, || TcpStream::connect_timeout(&target, Duration::from_secs(3)))?;
        match listener.accept()?.1 {
            SocketAddr::V4(peer) => Ok(*peer.ip()),
            SocketAddr::V6(peer) => panic!("IPv6 peer {peer}"),
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for (name, child) in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
            if std::thread::panicking() {
                let log = std::fs::read_to_string(self.directory.path().join(&*name)).unwrap_or_default();
                eprintln!("--- {name}\n{log}");
            }
        }
        for namespace in &self.namespaces {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
        }
    }
}

fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn address(result: &Value) -> Ipv4Addr {
    let text = result["ip4"]["ip"].as_str().unwrap();
    text.strip_suffix("/32").unwrap().parse().unwrap()
}

#[test]
#[ignore = "wants root and ETCD_BINARY"]
fn containers_reach_each_other_on_and_across_hosts() {
    let mut rig = Rig::new("reach", &["c1", "c2", "c3"]);
    for host in HOSTS {
        rig.start_node(host);
        rig.await_readiness(host, "HTTP/1.1 200");
    }
    let refused = rig.calico("a", "ADD", "c1").unwrap_err();
    assert!(refused["details"].as_str().unwrap().contains("profile"), "{refused}");
    rig.pool_and_profile();
    let [c1, c2, c3] = [("a", "c1"), ("a", "c2"), ("b", "c3")].map(|(host, container)| {
        rig.calico(host, "ADD", container).unwrap_or_else(|error| panic!("ADD of {container}: {error}"))
    });
    let [c1, c2, c3] = [c1, c2, c3].map(|result| address(&result));
    let deadline = Instant::now() + Duration::from_secs(5);
    while !(rig.routes("a").contains("via") && rig.routes("b").contains("via")) {
        assert!(Instant::now() < deadline, "no routes: {}{}", rig.routes("a"), rig.routes("b"));
        std::thread::sleep(Duration::from_millis(50));
    }
    for (client, own, server, other) in [("c1", c1, "c2", c2), ("c1", c1, "c3", c3), ("c3", c3, "c1", c1)] {
        assert_eq!(rig.seen_from(client, server, other).unwrap(), own, "{client} to {server}");
    }
    rig.calico("a", "CHECK", "c1").unwrap();
    for _ in 0..2 {
        rig.calico("a", "DEL", "c1").unwrap();
    }
    assert_eq!(rig.calico("a", "CHECK", "c1").unwrap_err()["code"], 3);
    assert!(rig.seen_from("c3", "c2", c2).is_ok());
}

#[test]
#[ignore = "wants root and ETCD_BINARY"]
fn routes_outlive_the_datastore_and_the_node() {
    let mut rig = Rig::new("outage", &["c1", "c2"]);
    rig.pool_and_profile();
    for host in HOSTS {
        rig.start_node(host);
        rig.await_readiness(host, "HTTP/1.1 200");
    }
    rig.calico("a", "ADD", "c1").unwrap();
    rig.await_readiness("b", "HTTP/1.1 200");
    std::thread::sleep(Duration::from_millis(500));
    let before = rig.routes("b");
    assert!(before.contains("via 10.99.78.11"), "{before}");

    rig.stop("etcd");
    rig.await_readiness("b", "HTTP/1.1 503");
    let start = Instant::now();
    let error = rig.calico("b", "ADD", "c2").unwrap_err();
    assert!(error["details"].as_str().unwrap().contains(ETCD), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10), "took {:?}", start.elapsed());
    assert_eq!(rig.routes("b"), before);

    rig.start_etcd();
    rig.await_readiness("b", "HTTP/1.1 200");
    rig.calico("b", "ADD", "c2").unwrap();
    let with_own = rig.routes("b");
    rig.stop("node-b");
    assert_eq!(rig.routes("b"), with_own);
}

#[test]
#[ignore = "wants root and ETCD_BINARY"]
fn no_address_is_given_twice() {
    let mut rig = Rig::new("ipam", &[]);
    rig.pool_and_profile();
    for host in HOSTS {
        rig.start_node(host);
        rig.await_readiness(host, "HTTP/1.1 200");
    }
    let ipam = env!("CARGO_BIN_EXE_calico-ipam");
    let containers: Vec<(&str, String)> =
        (0..100).map(|number| (HOSTS[number % 5 / 4], format!("container-{number}"))).collect();
    let results: Vec<Value> = std::thread::scope(|scope| {
        let rig = &rig;
        let calls: Vec<_> = containers
            .iter()
            .map(|(host, name)| scope.spawn(move || rig.cni(ipam, host, "ADD", name).unwrap()))
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let addresses: BTreeSet<Ipv4Addr> = results.iter().map(address).collect();
    assert_eq!(addresses.len(), containers.len());
    for (host, name) in &containers {
        rig.cni(ipam, host, "DEL", name).unwrap();
        assert!(rig.cni(ipam, host, "CHECK", name).is_err());
    }
}
