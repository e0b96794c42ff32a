//! `cni apply|check|undo` on directories of its own, with an agent that answers as Mesos 1.11 does.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::fs;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::fs::inotify;
use serde_json::{Value, json};

mod support;
use support::cni::Rig;
use support::{artifact, expect, installer};

fn stamps(paths: &[&Path]) -> Vec<(u64, i64, i64)> {
    let stamp = |path: &&Path| {
        let metadata = fs::metadata(path).unwrap();
        (metadata.ino(), metadata.mtime(), metadata.mtime_nsec())
    };
    paths.iter().map(stamp).collect()
}

#[test]
fn an_install_is_complete_and_a_second_one_touches_nothing() {
    let rig = Rig::new();
    expect(&rig.run("check", "one", &[]), 1, &["calico.conf", "calico-ipam"]);
    expect(&rig.apply("one"), 0, &["installed"]);
    let calico = rig.path("plugins/calico");
    assert_eq!(fs::read(&calico).unwrap(), b"one");
    assert_eq!(fs::metadata(&calico).unwrap().permissions().mode() & 0o7777, 0o755);
    let config: Value = serde_json::from_slice(&fs::read(rig.config()).unwrap()).unwrap();
    assert_eq!(config["etcd_endpoints"], "http://127.0.0.1:2379", "clients use the gateway");
    assert_eq!(config["nodename"], "host-1");

    let all =
        [calico.as_path(), &rig.config(), &rig.path("etc/net.d"), &rig.path("plugins"), &rig.path("state")];
    let before = stamps(&all);
    expect(&rig.apply("one"), 0, &["nothing to do"]);
    assert_eq!(stamps(&all), before);
    expect(&rig.run("check", "one", &[]), 0, &[]);
}

/// What the kernel tells of the two directories during an install.
#[test]
fn binaries_come_first_and_the_configuration_appears_whole() {
    let rig = Rig::new();
    let events = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    let interesting =
        inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::MODIFY;
    let config_dir = inotify::add_watch(&events, rig.path("etc/net.d"), interesting).unwrap();
    inotify::add_watch(&events, rig.path("plugins"), interesting).unwrap();
    expect(&rig.apply("one"), 0, &[]);

    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(&events, &mut buffer);
    let (mut appeared, mut in_config_dir) = (Vec::new(), Vec::new());
    while let Ok(event) = reader.next() {
        let name = event.file_name().unwrap().to_str().unwrap().to_owned();
        if event.wd() == config_dir {
            in_config_dir.push((name.clone(), event.events()));
        }
        if event.events().contains(inotify::ReadFlags::MOVED_TO) {
            appeared.push(name);
        }
    }
    assert_eq!(appeared, ["calico", "calico-ipam", "calico.conf"]);
    assert_eq!(in_config_dir, [("calico.conf".to_owned(), inotify::ReadFlags::MOVED_TO)]);
}

#[test]
fn only_what_differs_is_written() {
    let rig = Rig::new();
    expect(&rig.apply("one"), 0, &[]);
    let kept = [rig.config(), rig.path("plugins/calico-ipam")];
    let kept: Vec<&Path> = kept.iter().map(PathBuf::as_path).collect();
    let before = stamps(&kept);
    expect(&rig.apply("two"), 0, &["plugins/calico: its content differs"]);
    assert_eq!(stamps(&kept), before);
    assert_eq!(fs::read(rig.path("plugins/calico")).unwrap(), b"two");

    fs::set_permissions(rig.path("plugins/calico"), fs::Permissions::from_mode(0o644)).unwrap();
    expect(&rig.run("check", "two", &[]), 1, &["plugins/calico"]);
    expect(&rig.apply("two"), 0, &[]);
    fs::write(rig.config(), "drifted").unwrap();
    expect(&rig.apply("two"), 0, &["calico.conf"]);
    expect(&rig.run("check", "two", &[]), 0, &[]);
}

#[test]
fn a_check_compares_by_checksums_where_the_artifacts_are_not_there() {
    let rig = Rig::new();
    expect(&rig.apply("one"), 0, &[]);
    let without = || {
        let mut check = rig.command("check", "one");
        for name in ["calico", "calico-ipam"] {
            fs::remove_file(rig.path(name)).unwrap();
        }
        check.output().unwrap()
    };
    expect(&without(), 0, &["nothing to do"]);
    fs::remove_file(rig.path("plugins/calico-ipam")).unwrap();
    expect(&without(), 1, &["plugins/calico-ipam"]);
    // What is there must be right.
    let mut check = rig.command("check", "one");
    fs::write(rig.path("calico"), "evil").unwrap();
    expect(&check.output().unwrap(), 78, &["SHA-256"]);
}

#[test]
fn a_corrupt_artifact_changes_nothing() {
    let rig = Rig::new();
    let wrong = format!("{}#sha256={}", rig.path("calico").display(), "0".repeat(64));
    artifact(&rig.path("calico-ipam"), b"ipam");
    let output = installer()
        .args(["cni", "apply", "--network-name", "calico", "--mesos-agent", &rig.agent, "--state-dir"])
        .arg(rig.path("state"))
        .args(["--etcd-endpoints", "http://10.0.0.1:2379", "--artifacts-cni", &wrong, "--artifacts-cni-ipam"])
        .arg(artifact(&rig.path("calico"), b"evil"))
        .output()
        .unwrap();
    expect(&output, 78, &["SHA-256", "nothing was changed"]);
    assert_eq!(rig.installed(), [PathBuf::from("net.d")]);
    assert!(!rig.path("state").exists());
}

#[test]
fn strangers_are_not_overwritten() {
    let rig = Rig::new();
    let rival = rig.path("etc/net.d/10-other.cni");
    fs::write(&rival, r#"{"name":"calico","type":"bridge"}"#).unwrap();
    expect(&rig.apply("one"), 78, &["10-other.cni"]);
    fs::remove_file(rival).unwrap();
    fs::write(rig.config(), r#"{"name":"calico","type":"bridge"}"#).unwrap();
    expect(&rig.apply("one"), 78, &["calico.conf", "not written by"]);
    assert!(!rig.path("plugins/calico").exists());
}

#[test]
fn an_earlier_plugin_of_another_content_is_named() {
    // The second entry is asked for: to root every directory is writable.
    let rig = Rig::with("1.11.0", &["first", "second"]);
    let second = rig.path("second").display().to_string();
    fs::write(rig.path("first/calico"), "theirs").unwrap();
    expect(&rig.run("apply", "one", &["--cni-plugins-dir", &second]), 78, &["first/calico", "shadows"]);
    fs::write(rig.path("first/calico"), "one").unwrap();
    expect(&rig.run("apply", "one", &["--cni-plugins-dir", &second]), 0, &["comes first"]);
    assert!(rig.path("second/calico").exists());
}

#[test]
fn old_versions_of_mesos_are_refused_before_any_change() {
    let rig = Rig::with("0.28.3", &["plugins"]);
    expect(&rig.apply("one"), 78, &["Mesos 0.28 has no CNI"]);
    assert_eq!(rig.installed(), [PathBuf::from("net.d")]);
}

#[test]
fn an_agent_that_is_away_is_a_service_that_is_not_there() {
    let mut rig = Rig::new();
    rig.agent = "http://127.0.0.1:1".to_owned();
    expect(&rig.apply("one"), 69, &["--mesos-agent", "127.0.0.1:1"]);
}

#[test]
fn undo_brings_back_what_was_there() {
    let rig = Rig::new();
    fs::write(rig.path("plugins/calico"), "theirs").unwrap();
    fs::set_permissions(rig.path("plugins/calico"), fs::Permissions::from_mode(0o711)).unwrap();
    let before = rig.installed();
    let theirs = calico_installer::host::files::sha256_hex(b"theirs");
    let words = ["note: ", "plugins/calico was not written by calico-installer", &theirs, "undo"];
    expect(&rig.run("check", "one", &[]), 1, &words);
    expect(&rig.apply("one"), 0, &words);
    let again = rig.apply("two");
    expect(&again, 0, &[]);
    assert!(!support::text(&again).contains("was not written by"), "{}", support::text(&again));
    expect(&rig.undo(&[]), 0, &["restored", "removed"]);
    assert_eq!(rig.installed(), before);
    assert_eq!(fs::read(rig.path("plugins/calico")).unwrap(), b"theirs");
    assert_eq!(fs::metadata(rig.path("plugins/calico")).unwrap().permissions().mode() & 0o7777, 0o711);
    assert!(!rig.path("state").exists());
    expect(&rig.undo(&[]), 0, &["nothing to take back"]);
}

#[test]
fn undo_waits_for_the_containers_on_the_network() {
    let rig = Rig::new();
    expect(&rig.apply("one"), 0, &[]);
    let user = rig.path("run/isolators/network/cni/c-1/calico/eth0");
    fs::create_dir_all(&user).unwrap();
    expect(&rig.undo(&[]), 75, &["c-1 (web.1 of framework marathon)", "--force"]);
    assert!(rig.config().exists() && rig.path("plugins/calico").exists());
    expect(&rig.undo(&["--force"]), 0, &["c-1"]);
    assert_eq!(rig.installed(), [PathBuf::from("net.d")]);
}

#[test]
fn the_plugins_stay_as_long_as_another_network_needs_them() {
    let rig = Rig::new();
    expect(&rig.apply("one"), 0, &[]);
    let other = |verb: &str| {
        let mut command = installer();
        command.args(["cni", verb, "--network-name", "other", "--mesos-agent", &rig.agent, "--state-dir"]);
        command.arg(rig.path("state"));
        command
    };
    expect(&other("undo").output().unwrap(), 78, &["other was not installed here", "calico.conf"]);
    let calico = artifact(&rig.path("calico"), b"one");
    let ipam = artifact(&rig.path("calico-ipam"), b"ipam");
    let applied = other("apply")
        .args([
            "--etcd-endpoints",
            "http://10.0.0.1:2379",
            "--artifacts-cni",
            &calico,
            "--artifacts-cni-ipam",
            &ipam,
        ])
        .output()
        .unwrap();
    expect(&applied, 0, &["other.conf"]);
    expect(&rig.undo(&[]), 0, &["the plugins stay", "other.conf"]);
    assert!(!rig.config().exists() && rig.path("plugins/calico").exists());
    expect(&other("undo").output().unwrap(), 0, &[]);
    assert_eq!(rig.installed(), [PathBuf::from("net.d")]);
}

#[test]
fn undo_leaves_what_someone_else_changed_since() {
    let rig = Rig::new();
    expect(&rig.apply("one"), 0, &[]);
    fs::write(rig.path("plugins/calico-ipam"), "patched").unwrap();
    expect(&rig.undo(&[]), 78, &["calico-ipam", "someone else"]);
    assert_eq!(fs::read(rig.path("plugins/calico-ipam")).unwrap(), b"patched");
    expect(&rig.undo(&["--force"]), 0, &[]);
    assert_eq!(rig.installed(), [PathBuf::from("net.d")]);
}

/// Made by calico-installer 0.5.0, which was killed between the record of an upgrade and the rename.
#[test]
fn an_install_of_an_older_version_is_known_and_can_be_undone() {
    let rig = Rig::new();
    expect(&rig.apply("one"), 0, &[]);
    let files = |place: &str, staging: &str, wrote: &[&str]| json!({ "step": "cni", "path": rig.path(place), "staging": staging, "before": null, "wrote": wrote });
    let sha256 = |place: &str| calico_installer::host::files::sha256_of(&rig.path(place)).unwrap();
    let old = json!({ "version": 1, "files": [
        files("plugins/calico", "beside", &[&sha256("plugins/calico"), &"f".repeat(64)]),
        files("plugins/calico-ipam", "beside", &[&sha256("plugins/calico-ipam")]),
        files("etc/net.d/calico.conf", "outside", &[&sha256("etc/net.d/calico.conf")]),
    ]});
    fs::write(rig.path("state/journal.json"), old.to_string()).unwrap();
    fs::write(rig.path("plugins/.calico.calico-dcos"), "half").unwrap();
    expect(&rig.run("check", "one", &[]), 0, &["nothing to do"]);
    expect(&rig.undo(&[]), 0, &["removed"]);
    assert_eq!(rig.installed(), [PathBuf::from("net.d")]);
    assert!(!rig.path("state").exists());
}

/// The plugin behind the wrapper: it shows what it is given.
const SHOWS: &str = "#!/bin/sh\ncat\necho \"[$CNI_COMMAND $*]\"\nexit 7\n";

/// Runs an installed plugin as Mesos does.
fn plugin(rig: &Rig, stdin: &str) -> Output {
    let mut child = Command::new(rig.path("plugins/calico"))
        .arg("argument")
        .env_clear()
        .env("CNI_COMMAND", "ADD")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn labels_are_shortened_on_their_way_to_the_plugin_and_nothing_else_is_changed() {
    let rig = Rig::new();
    expect(
        &rig.run("apply", SHOWS, &["--cni-label-wrapper"]),
        0,
        &["plugins/calico-impl", "plugins/calico:"],
    );
    assert_eq!(fs::read(rig.path("plugins/calico-impl")).unwrap(), SHOWS.as_bytes());
    let long = "l".repeat(200_000);
    let config = |value: &str| {
        let labels = json!([{ "key": "k", "value": value }]);
        let info = json!({ "name": "calico", "labels": { "labels": labels } });
        let args = json!({ "org.apache.mesos": { "network_info": info } });
        format!("{:#}\n", json!({ "cniVersion": "0.1.0", "name": "calico", "args": args }))
    };
    let said = |stdin: &str| {
        let output = plugin(&rig, stdin);
        assert_eq!(output.status.code(), Some(7), "it ends as the plugin does");
        let said = String::from_utf8(output.stdout).unwrap();
        said.strip_suffix("[ADD argument]\n").unwrap_or_else(|| panic!("{said}")).to_owned()
    };
    for untouched in [config("short").as_str(), "no JSON", ""] {
        assert_eq!(said(untouched), untouched);
    }
    let value = calico_installer::label_wrapper::short(&long).into_owned();
    let expected: Value = serde_json::from_str(&config(&value)).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&said(&config(&long))).unwrap(), expected);

    // Without the plugin it says so as plugins do.
    fs::remove_file(rig.path("plugins/calico-impl")).unwrap();
    let output = plugin(&rig, &config("short"));
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &error["code"], &error["cniVersion"]),
        (Some(1), &json!(5), &json!("0.1.0"))
    );
    assert!(error["details"].as_str().unwrap().contains("plugins/calico-impl: No such file"), "{error}");

    // Put back, and then replaced by the plugin itself.
    expect(&rig.run("apply", SHOWS, &["--cni-label-wrapper"]), 0, &["plugins/calico-impl: it is missing"]);
    expect(&rig.run("apply", SHOWS, &[]), 0, &["plugins/calico: its content differs"]);
    assert_eq!(fs::read(rig.path("plugins/calico")).unwrap(), SHOWS.as_bytes());
    expect(&rig.undo(&[]), 0, &[]);
    assert_eq!(rig.installed(), [PathBuf::from("net.d")]);
}

#[test]
fn the_port_mapper_is_mesos_own_and_is_put_where_the_agent_finds_it() {
    let rig = Rig::new();
    let missing = ["mesos-cni-port-mapper", "launcher_dir", "launcher/mesos-cni-port-mapper"];
    expect(&rig.run("apply", "one", &["--cni-port-mapper"]), 78, &missing);
    fs::create_dir(rig.path("launcher")).unwrap();
    fs::write(rig.path("launcher/mesos-cni-port-mapper"), "mapper").unwrap();
    expect(
        &rig.run("apply", "one", &["--cni-port-mapper"]),
        0,
        &["plugins/mesos-cni-port-mapper: it is missing"],
    );
    let config: Value = serde_json::from_slice(&fs::read(rig.config()).unwrap()).unwrap();
    assert_eq!(
        (&config["type"], &config["delegate"]["type"]),
        (&json!("mesos-cni-port-mapper"), &json!("calico"))
    );
    expect(&rig.run("check", "one", &["--cni-port-mapper"]), 0, &[]);
    // It comes with the agent, also a newer one.
    fs::write(rig.path("launcher/mesos-cni-port-mapper"), "newer").unwrap();
    expect(
        &rig.run("apply", "one", &["--cni-port-mapper"]),
        0,
        &["plugins/mesos-cni-port-mapper: its content differs"],
    );
    expect(&rig.undo(&[]), 0, &[]);
    assert_eq!(rig.installed(), [PathBuf::from("net.d")]);
    // Where the agent has it already it is not ours.
    fs::write(rig.path("plugins/mesos-cni-port-mapper"), "theirs").unwrap();
    expect(&rig.run("apply", "one", &["--cni-port-mapper"]), 0, &[]);
    expect(&rig.undo(&[]), 0, &[]);
    assert_eq!(fs::read(rig.path("plugins/mesos-cni-port-mapper")).unwrap(), b"theirs");
}

#[test]
fn a_directory_that_was_wiped_is_made_again_where_the_plugins_were_and_stays_for_the_agent() {
    let rig = Rig::with("1.11.0", &["first", "second"]);
    let second = rig.path("second").display().to_string();
    expect(&rig.run("apply", "one", &["--cni-plugins-dir", &second]), 0, &[]);
    fs::remove_dir_all(rig.path("second")).unwrap();
    fs::remove_dir_all(rig.path("etc/net.d")).unwrap();
    expect(
        &rig.apply("one"),
        0,
        &["make the directory", "second/calico: it is missing", "calico.conf: it is missing"],
    );
    expect(&rig.undo(&[]), 0, &["second stays: it is in use"]);
    assert!(rig.path("second").is_dir() && rig.path("etc/net.d").is_dir());
    assert!(!rig.path("state").exists());
}

#[test]
fn wrong_values_of_options_say_what_would_be_right() {
    let rig = Rig::new();
    for (option, value, words) in [
        ("--cni-ipv4-pools", "10.0.0.0/8,10.0.0.1/8", "10.0.0.1/8"),
        ("--cni-log-level", "loud", "debug, info, warning, error"),
        ("--network-mtu", "100", "576"),
        ("--mesos-platform", "k8s", "auto, dcos, mesos"),
        ("--mesos-patience", "0", "from 1 to 3600"),
        ("--cni-config-dir", "/elsewhere", "is not read by the agent"),
        ("--cni-plugins-dir", "/elsewhere", "is not searched by the agent"),
        ("--node-name", "Host A", "--node-name"),
    ] {
        let mut command = rig.command("apply", "one");
        if option == "--node-name" {
            // It has one already.
            let words: Vec<_> = command
                .get_args()
                .map(ToOwned::to_owned)
                .filter(|it| it != "--node-name" && it != "host-1")
                .collect();
            command = installer();
            command.args(words);
        }
        expect(&command.args([option, value]).output().unwrap(), 78, &[words]);
    }
    assert_eq!(rig.installed(), [PathBuf::from("net.d")]);
}
