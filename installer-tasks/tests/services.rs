//! `etcd-proxy`, `cluster-init` and `node` as processes: how they start, are told to end, and end by themselves.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

mod support;
use support::{artifact, docker, installer, serve, text};

fn expect(output: &Output, code: i32, words: &[&str]) {
    let text = text(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
}

/// An `etcd` that only notes how it is called and signalled.
const ETCD: &str = "#!/bin/sh
echo \"$@\" > \"$NOTES/arguments\"
trap 'echo TERM > \"$NOTES/signal\"; exit 0' TERM
while :; do sleep 0.05; done
";

fn proxy(directory: &Path, etcd: &str, listen: &str) -> Command {
    let mut command = installer();
    command
        .env("NOTES", directory)
        .args(["etcd-proxy", "run", "--etcd-endpoints", "http://127.0.0.1:1,http://127.0.0.1:2"])
        .args([
            "--etcd-listen",
            listen,
            "--artifacts-etcd",
            &artifact(&directory.join("etcd"), etcd.as_bytes()),
        ]);
    command
}

/// An address that was free a moment ago.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let since = Instant::now();
    while !there() {
        assert!(since.elapsed() < Duration::from_secs(20), "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn terminate(child: &Child) {
    kill_process(Pid::from_child(child), Signal::TERM).unwrap();
}

#[test]
fn sigterm_reaches_the_proxy_and_is_no_success() {
    let directory = tempfile::tempdir().unwrap();
    let listen = free_address();
    let mut child = proxy(directory.path(), ETCD, &listen).stderr(Stdio::piped()).spawn().unwrap();
    let arguments = directory.path().join("arguments");
    wait_for("the start of etcd", || fs::read_to_string(&arguments).is_ok_and(|text| text.ends_with('\n')));
    assert_eq!(
        fs::read_to_string(arguments).unwrap(),
        format!(
            "gateway start --listen-addr={listen} --endpoints=127.0.0.1:1,127.0.0.1:2 --retry-delay=10s\n"
        )
    );
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!(fs::read_to_string(directory.path().join("signal")).unwrap(), "TERM\n");
    let mut said = String::new();
    child.stderr.unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("SIGTERM"), "{said}");
}

/// Its sandbox is on a full disk.
#[test]
fn a_service_that_cannot_say_anything_goes_on() {
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let healthy = serve(HashMap::from([("/health", r#"{"health":"true"}"#.to_owned())]));
    let mut proxy = proxy(directory.path(), ETCD, &free_address());
    let mut child = proxy.stdout(full()).stderr(full()).spawn().unwrap();
    wait_for("the start of etcd", || directory.path().join("arguments").exists());
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let through = ["--etcd-endpoints", "http://10.0.0.1:1", "--etcd-listen", &healthy.to_string()];
    for (words, code) in [
        ([&["etcd-proxy", "check"], &through[..]].concat(), 0),
        (vec!["node", "check", "--live", "--docker-socket", "/nonexistent"], 0),
        (vec!["libnetwork", "check", "--live", "--docker-socket", "/nonexistent"], 0),
        (vec!["node-ip", "--node-ip", "127.0.0.1"], 0),
    ] {
        let status = installer().args(&words).stdout(full()).stderr(full()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{words:?}");
    }
}

#[test]
fn a_proxy_that_ends_by_itself_is_a_failure_even_with_0() {
    let directory = tempfile::tempdir().unwrap();
    let output = proxy(directory.path(), "#!/bin/sh\nexit 0\n", &free_address()).output().unwrap();
    expect(&output, 1, &["ended by itself", "exit status: 0"]);
}

#[test]
fn the_holder_of_the_address_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = holder.local_addr().unwrap().to_string();
    let output = proxy(directory.path(), ETCD, &listen).output().unwrap();
    expect(&output, 75, &[&listen, &format!("pid {}", std::process::id())]);
    let output = proxy(directory.path(), ETCD, "192.0.2.1:2379").output().unwrap();
    expect(&output, 78, &["192.0.2.1:2379 is not an address of this host"]);
}

#[test]
fn the_check_reads_through_the_proxy() {
    let healthy = serve(HashMap::from([("/health", r#"{"health":"true"}"#.to_owned())])).to_string();
    let check = |listen: &str| {
        installer()
            .args([
                "etcd-proxy",
                "check",
                "--etcd-endpoints",
                "http://10.0.0.1:2379",
                "--etcd-listen",
                listen,
            ])
            .output()
            .unwrap()
    };
    expect(&check(&healthy), 0, &[&healthy]);
    expect(&check(&serve(HashMap::new()).to_string()), 1, &["404"]);
    expect(&check(&free_address()), 1, &["cannot connect"]);
}

#[test]
fn an_artifact_that_differs_is_never_run() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("etcd"), "#!/bin/sh\ntouch \"$NOTES/ran\"\n").unwrap();
    let wrong = format!("{}#sha256={}", directory.path().join("etcd").display(), "0".repeat(64));
    let output = installer()
        .env("NOTES", directory.path())
        .args(["etcd-proxy", "run", "--etcd-endpoints", "http://127.0.0.1:1", "--artifacts-etcd", &wrong])
        .output()
        .unwrap();
    expect(&output, 78, &["SHA-256"]);
    assert!(!directory.path().join("ran").exists());
}

#[test]
fn cluster_init_says_that_the_datastore_is_away() {
    let directory = tempfile::tempdir().unwrap();
    let calicoctl = artifact(&directory.path().join("calicoctl"), b"#!/bin/sh\nexit 1\n");
    let output = installer()
        .args(["cluster-init", "apply", "--network-name", "calico", "--network-pool-cidr", "192.168.0.0/16"])
        .args(["--etcd-endpoints", "http://127.0.0.1:1", "--artifacts-calicoctl", &calicoctl])
        .output()
        .unwrap();
    expect(&output, 69, &["datastore", "127.0.0.1:1"]);
}

/// Its supervisor waits for Docker: killing it would help nobody. But it serves nothing.
#[test]
fn without_docker_services_live_and_are_not_ready() {
    for service in ["node", "libnetwork"] {
        for (question, code) in [("--live", 0), ("--ready", 1)] {
            let check = [service, "check", question, "--docker-socket", "/nonexistent"];
            let output = installer().args(check).output().unwrap();
            expect(&output, code, &["/nonexistent"]);
        }
        let output = installer().args([service, "check"]).output().unwrap();
        expect(&output, 78, &["--live"]);
    }
}

#[test]
fn images_are_fetched_through_docker_and_artifacts_are_checked_before() {
    let directory = tempfile::tempdir().unwrap();
    let right = artifact(&directory.path().join("etcd"), b"etcd");
    let wrong = format!("{}#sha256={}", directory.path().join("etcd").display(), "0".repeat(64));
    let prefetch = |more: &[&str]| {
        let docker = ["prefetch", "--docker-socket", "/nonexistent"];
        installer().args(docker).args(more).output().unwrap()
    };
    expect(&prefetch(&["--image", "i:v1"]), 69, &["/nonexistent"]);
    expect(&prefetch(&["--artifact", &right]), 0, &["etcd has the hash", "no image is asked for"]);
    let output = prefetch(&["--artifact", &right, "--artifact", &wrong, "--image", "i:v1"]);
    expect(&output, 78, &["is configured", &"0".repeat(64)]);
    assert!(!text(&output).contains("/nonexistent"), "Docker was asked all the same");
}

#[test]
fn where_there_is_no_docker_nothing_of_a_service_is_to_be_taken_back() {
    let state = tempfile::tempdir().unwrap();
    for service in ["node", "libnetwork"] {
        let undo =
            [service, "undo", "--docker-unit=no-such.service", "--docker-socket=/nonexistent", "--state-dir"];
        let output = installer().args(undo).arg(state.path()).output().unwrap();
        expect(&output, 0, &["nothing to take back"]);
    }
}

/// The network plugin of Calico v2.6 is in calico-node: Docker's containers need it when they end, as they do where it has
/// a container of its own.
#[test]
fn a_calico_node_that_serves_dockers_network_stays_for_its_containers() {
    for (enabled, users, force, code, words) in [
        ("true", true, false, 75, "containers use Docker's network, and need its plugin when they end: web"),
        ("true", true, true, 0, "removed the container calico-node"),
        ("true", false, false, 0, "removed the container calico-node"),
        // Of Calico v3, or without it: nobody depends on it.
        ("false", true, false, 0, "removed the container calico-node"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let asked = docker::serve(&socket, docker::V20_10, move |request| {
            let node = json!([{ "Id": "n1", "Names": ["/calico-node"], "State": "running" }]);
            let user = json!([{ "Id": "w1", "Names": ["/web"], "State": "running" }]);
            Some(match request {
                it if it.starts_with("GET /containers/json") && it.contains("calico-dcos.task") => {
                    (200, node)
                }
                it if it.starts_with("GET /containers/json") => (200, if users { user } else { json!([]) }),
                "GET /containers/n1/json" => {
                    let variable = format!("CALICO_LIBNETWORK_ENABLED={enabled}");
                    (200, json!({ "Id": "n1", "Config": { "Env": ["IP=10.0.0.1", variable] } }))
                }
                it if it.starts_with("GET /networks") => (200, json!([{ "Id": "net1", "Name": "calico" }])),
                it if it.starts_with("POST /containers/n1/stop") => (204, json!(null)),
                it if it.starts_with("DELETE /containers/n1") => (204, json!(null)),
                _ => return None,
            })
        });
        let mut undo = installer();
        undo.args(["node", "undo", "--docker-socket"]).arg(&socket);
        undo.arg("--state-dir").arg(directory.path().join("state")).args(force.then_some("--force"));
        expect(&undo.output().unwrap(), code, &[words]);
        let asked = asked.lock().unwrap();
        let stopped = asked.iter().find(|it| it.contains("/stop"));
        assert_eq!(stopped.is_some(), code == 0, "{asked:?}");
        // One that serves Docker is told to end by a signal that it does not hear.
        let at_once = stopped.is_some_and(|it| it.contains("t=0"));
        assert_eq!(at_once, enabled == "true" && code == 0, "{asked:?}");
    }
}

#[test]
fn libnetwork_waits_for_calico_node() {
    let output = installer()
        .args(["libnetwork", "run", "--libnetwork-image", "i", "--libnetwork-cpus", "0.1"])
        .args(["--libnetwork-mem", "64", "--etcd-endpoints", "http://127.0.0.1:1", "--node-name", "h"])
        .args(["--docker-socket", "/nonexistent"])
        .output()
        .unwrap();
    expect(&output, 69, &["calico-node has not run", "/var/lib/calico/nodename"]);
}

/// Refused before anything of the host is changed, and without a word of what is in a file of credentials.
#[test]
fn what_calico_node_cannot_be_run_with_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let credentials = directory.path().join("credentials");
    fs::write(&credentials, "s3cret").unwrap();
    let node = "node run --node-image i --etcd-endpoints http://127.0.0.1:1 --docker-socket /nonexistent";
    let resources = [("--node-cpus", "1"), ("--node-mem", "64")];
    for (more, words) in [
        ("--node-profile v2.6 --network-encapsulation vxlan", "give ipip or none"),
        ("--node-backend none", "leave it out, or give one of: vxlan, bird"),
        ("--node-libnetwork", "--node-libnetwork is for --node-profile v2.6"),
        ("--node-profile v2.6 --etcd-proxy grpc-proxy", "--node-profile v2.6 needs the v2 API"),
        ("--node-ip 192.0.2.1", "--node-ip 192.0.2.1 is not an address of this host"),
        ("--node-mem 5", "MiB"),
        ("--node-cpus 0", "CPUs"),
        ("--registry-credentials /c#sha256=12", "--registry-credentials"),
        ("--etcd-key /k", "--etcd-key is given without its --etcd-cert"),
    ] {
        let line = format!("{node} {more}");
        let others = resources.iter().filter(|(option, _)| !more.contains(option));
        let others = others.flat_map(|(option, value)| [option, value]);
        let output = installer().args(line.split_whitespace()).args(others).output().unwrap();
        expect(&output, 78, &[words]);
    }
    let image = installer()
        .args(["prefetch", "--image", "i", "--docker-socket", "/nonexistent", "--registry-credentials"])
        .arg(&credentials)
        .output()
        .unwrap();
    assert!(!text(&image).contains("s3cret"), "{}", text(&image));
}

#[test]
fn faulty_options_are_named_with_what_would_be_right() {
    let output = installer()
        .args(["cluster-init", "apply", "--network-name", "Calico", "--network-pool-cidr", "192.168.0.1/16"])
        .args(["--etcd-endpoints", "http://a:1", "--artifacts-calicoctl", "x"])
        .output()
        .unwrap();
    expect(&output, 78, &["--network-name", "lower-case"]);
    let output = installer().args(["node-ip", "--etcd-endpoints", "http://127.0.0.1:2379"]).output().unwrap();
    expect(&output, 69, &["--node-ip"]);
}
