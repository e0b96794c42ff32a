//! The program needs nothing of the host that it is not there for: no library, no shell, no file.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::process::{Command, Output};

mod support;
use support::expect;

const PROGRAM: &str = env!("CARGO_BIN_EXE_calico-installer");

/// Runs it where there is no other file at all.
fn alone(words: &[&str]) -> Output {
    let root = tempfile::tempdir().unwrap();
    std::fs::copy(PROGRAM, root.path().join("calico-installer")).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--root"]).arg(root.path()).arg("/calico-installer").args(words);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).output().unwrap()
}

#[test]
fn it_is_linked_statically() {
    let output = Command::new("ldd").arg(PROGRAM).output().unwrap();
    let said = support::text(&output);
    assert!(said.contains("statically linked") || said.contains("not a dynamic executable"), "{said}");
}

#[test]
fn in_a_root_without_any_file_it_says_what_it_lacks() {
    expect(&alone(&["--version"]), 0, &["calico-installer"]);
    expect(&alone(&["status", "--node-ip", "127.0.0.1", "--json"]), 0, &["{"]);
    expect(&alone(&["preflight", "--node-ip", "127.0.0.1"]), 78, &["/var/run/docker.sock"]);
    // Names are looked up without libraries.
    let check = [
        "etcd-proxy",
        "check",
        "--etcd-endpoints",
        "http://no-such-host.invalid:2379",
        "--etcd-proxy",
        "direct",
    ];
    expect(&alone(&check), 1, &["no-such-host.invalid"]);
}
