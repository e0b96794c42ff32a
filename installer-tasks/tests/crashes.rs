//! `cni` is killed at every point where it changes something; full disks and read-only ones.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

mod support;
use support::cni::Rig;
use support::kill::{self, at_every_point};
use support::{Snapshot, expect, text};

/// A rig with someone's plugin in our plugin's place, how it looks, and a place for strace's log.
fn rig() -> (Rig, Snapshot, tempfile::TempDir) {
    let rig = Rig::new();
    fs::write(rig.path("plugins/calico"), "theirs").unwrap();
    fs::set_permissions(rig.path("plugins/calico"), fs::Permissions::from_mode(0o711)).unwrap();
    let before = rig.snapshot();
    (rig, before, tempfile::tempdir().unwrap())
}

/// Nobody ever sees half of a file, or the configuration before its plugins.
fn assert_whole(rig: &Rig, how: &str) {
    let calico = fs::read(rig.path("plugins/calico")).unwrap();
    assert!([&b"theirs"[..], b"one", b"two"].contains(&&calico[..]), "{how}: {calico:?}");
    if let Ok(config) = fs::read(rig.config()) {
        serde_json::from_slice::<serde_json::Value>(&config).unwrap_or_else(|error| panic!("{how}: {error}"));
        assert_eq!(fs::read(rig.path("plugins/calico-ipam")).unwrap(), b"ipam", "{how}");
    }
    let in_net_d: Vec<PathBuf> =
        fs::read_dir(rig.path("etc/net.d")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(in_net_d.iter().all(|path| *path == rig.config()), "{how}: {in_net_d:?}");
}

/// What is left is finished by the next `apply`, and then taken back whole.
fn assert_repaired(rig: &Rig, plugin: &str, before: &Snapshot, how: &str) {
    assert_whole(rig, how);
    let applied = rig.apply(plugin);
    assert!(applied.status.success(), "{how}: {}", text(&applied));
    let checked = rig.run("check", plugin, &[]);
    assert!(checked.status.success(), "{how}: {}", text(&checked));
    assert_eq!(fs::read(rig.path("plugins/calico")).unwrap(), plugin.as_bytes(), "{how}");
    assert_taken_back(rig, before, how);
}

fn assert_taken_back(rig: &Rig, before: &Snapshot, how: &str) {
    let undone = rig.undo(&[]);
    assert!(undone.status.success(), "{how}: {}", text(&undone));
    assert_eq!(rig.snapshot(), *before, "{how}");
}

#[test]
fn an_install_killed_anywhere_is_finished_by_the_next_and_can_be_undone() {
    let (rig, before, scratch) = rig();
    let log = scratch.path().join("log");
    let command = || rig.command("apply", "one");
    let undone = || assert_taken_back(&rig, &before, "at first");
    let killed =
        at_every_point(&log, undone, command, |at| assert_repaired(&rig, "one", &before, &at.to_string()));
    println!("killed at {killed} points");
    assert!(killed > 50, "so few points cannot be all: {killed}");
}

/// The label wrapper, Mesos' port mapper and files of TLS besides: killed at every third point where something gets its name, or
/// loses it.
#[test]
fn an_install_of_all_that_there_is_killed_where_names_change_is_finished_by_the_next_and_can_be_undone() {
    let (rig, _, scratch) = rig();
    let mapper = rig.path("launcher/mesos-cni-port-mapper");
    fs::create_dir_all(mapper.parent().unwrap()).unwrap();
    fs::write(&mapper, "mapper").unwrap();
    fs::set_permissions(&mapper, fs::Permissions::from_mode(0o755)).unwrap();
    let sandbox = rig.path("sandbox");
    fs::create_dir(&sandbox).unwrap();
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        fs::write(sandbox.join(name), name).unwrap();
    }
    // As it is made to be, whoever fetched it.
    fs::set_permissions(sandbox.join("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    let before = rig.snapshot();
    let all = |verb: &str| {
        let mut words: Vec<String> =
            rig.command(verb, "one").get_args().map(|it| it.to_str().unwrap().to_owned()).collect();
        let etcd = words.iter().position(|it| it.starts_with("http://10.")).unwrap();
        words[etcd] = "https://10.0.0.1:2379".to_owned();
        let more = "--etcd-proxy direct --cni-label-wrapper --cni-port-mapper --etcd-ca ca.pem --etcd-cert cert.pem --etcd-key key.pem";
        words.extend(more.split(' ').map(ToOwned::to_owned));
        // In its sandbox, as a task is.
        let mut command = Command::new("env");
        command.arg("-C").arg(&sandbox).arg(env!("CARGO_BIN_EXE_calico-installer")).args(words);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command
    };
    let whole = |how: &str| {
        let Ok(config) = fs::read(rig.config()) else { return };
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        let calico = &config["delegate"];
        assert_eq!(config["type"], "mesos-cni-port-mapper", "{how}");
        for field in ["etcd_ca_cert_file", "etcd_cert_file", "etcd_key_file"] {
            let path = Path::new(calico[field].as_str().unwrap());
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{how}: {field}");
        }
        for name in ["calico", "calico-impl", "calico-ipam", "mesos-cni-port-mapper"] {
            assert!(rig.path("plugins").join(name).exists(), "{how}: {name}");
        }
    };
    let seen = Cell::new(0_u32);
    let renames = |point: &kill::Point| {
        let is_name = ["rename", "unlink", "mkdir", "rmdir"].iter().any(|call| point.call.starts_with(call));
        let counts = is_name && point.changes_a_file_or_asks_for(&[]);
        seen.set(seen.get() + u32::from(counts));
        // The wrapper is this program: writing it takes most of the time.
        counts && seen.get().is_multiple_of(3)
    };
    let undone = || assert_taken_back(&rig, &before, "at first");
    let log = scratch.path().join("log");
    let mut looked_at = 0;
    let killed = kill::at_points(
        &log,
        undone,
        || all("apply"),
        renames,
        |at| {
            let how = at.to_string();
            whole(&how);
            // Half of them are taken back at once.
            looked_at += 1;
            if looked_at % 2 == 0 {
                for verb in ["apply", "check"] {
                    let ran = all(verb).output().unwrap();
                    assert!(ran.status.success(), "{how}: {}", text(&ran));
                }
                whole(&how);
                assert!(rig.config().exists(), "{how}");
            }
            assert_taken_back(&rig, &before, &how);
        },
    );
    println!("killed at {killed} points");
    assert!(killed > 10, "so few names cannot be all: {killed}");
}

#[test]
fn what_a_killed_install_left_can_be_undone_at_once() {
    let (rig, before, scratch) = rig();
    let log = scratch.path().join("log");
    let undone = || assert_taken_back(&rig, &before, "at first");
    at_every_point(
        &log,
        undone,
        || rig.command("apply", "one"),
        |at| {
            assert_whole(&rig, &at.to_string());
            assert_taken_back(&rig, &before, &at.to_string());
        },
    );
}

#[test]
fn an_upgrade_killed_anywhere_is_finished_by_the_next_and_can_be_undone() {
    let (rig, before, scratch) = rig();
    let log = scratch.path().join("log");
    let installed = || {
        assert_taken_back(&rig, &before, "at first");
        expect(&rig.apply("one"), 0, &[]);
    };
    let command = || rig.command("apply", "two");
    let killed =
        at_every_point(&log, installed, command, |at| assert_repaired(&rig, "two", &before, &at.to_string()));
    println!("killed at {killed} points");
}

#[test]
fn an_undo_killed_anywhere_is_finished_by_the_next() {
    let (rig, before, scratch) = rig();
    let log = scratch.path().join("log");
    let installed = || expect(&rig.apply("one"), 0, &[]);
    let killed = at_every_point(
        &log,
        installed,
        || rig.undo_command(),
        |at| {
            assert_whole(&rig, &at.to_string());
            assert_taken_back(&rig, &before, &at.to_string());
        },
    );
    println!("killed at {killed} points");
}

/// From each write on, no file can be written any more; and the same for directories, and for syncs.
#[test]
fn a_disk_that_is_full_or_broken_from_anywhere_on_leaves_all_as_it_was() {
    let (rig, before, scratch) = rig();
    let log = scratch.path().join("log");
    let command = rig.command("apply", "one");
    let (_, points) = kill::points(&command, &log);
    assert_taken_back(&rig, &before, "at first");
    let mut failed = 0;
    for (call, error) in [("write", "ENOSPC"), ("mkdir", "ENOSPC"), ("fsync", "EIO")] {
        let on_files = points.iter().filter(|point| point.call == call);
        let mut paths: Vec<PathBuf> =
            on_files.filter_map(|point| point.path_below(rig.root.path())).collect();
        let count = paths.len();
        // Where the configuration is written when it cannot be outside its directory.
        paths.extend(
            [".calico-dcos", ".calico-dcos/.calico.conf.calico-dcos"]
                .map(|it| rig.path("etc/net.d").join(it)),
        );
        for from in 1..=count {
            let output = kill::failing_from(&command, call, from, error, &paths, &log);
            let how = format!("{call} fails from {from} of {count} on: {}", text(&output));
            if call == "fsync" && output.status.success() {
                // All was done and verified before.
                assert!(how.contains("the journal is not as tidy as it could be"), "{how}");
                assert_repaired(&rig, "one", &before, &how);
                continue;
            }
            assert_eq!(output.status.code(), Some(75), "{how}");
            failed += 1;
            let left = rig.snapshot();
            if left != before {
                // Where nothing can be synced, nothing can be tidied or taken back for sure, which is said.
                assert_eq!(call, "fsync", "{how}");
                let of_journal = |path: &Path| path.starts_with("state");
                let only_journal =
                    left.iter().all(|(path, it)| of_journal(path) || before.get(path) == Some(it));
                let expected = if only_journal { "nothing was changed" } else { "calico-installer cni undo" };
                assert!(how.contains(expected) || how.contains("calico-installer cni undo"), "{how}");
                assert_repaired(&rig, "one", &before, &how);
            }
        }
    }
    println!("{failed} ways to fail");
    assert!(failed > 10, "only {failed} calls failed");
}

#[test]
fn a_change_is_finished_though_nobody_can_hear_of_it() {
    let (rig, _, _) = rig();
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = rig.command("apply", "one").stdout(full()).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(0));
    expect(&rig.run("check", "one", &[]), 0, &[]);
}

/// The command, with something mounted first that nobody else sees.
fn with_mounts(script: &str, directory: &Path, command: &Command) -> Output {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "sh", "-ec", &format!("{script}; shift; exec \"$@\"")]);
    unshare.arg("sh").arg(directory).arg(command.get_program()).args(command.get_args());
    unshare.output().unwrap()
}

#[test]
#[ignore = "mounts, which takes root"]
fn a_plugins_directory_that_is_full_is_left_as_it_was() {
    let (rig, before, _scratch) = rig();
    let command = rig.command("apply", &"p".repeat(64 << 10));
    let script = "mount -t tmpfs -o size=16k tmpfs \"$1\"; echo theirs >\"$1/calico\"; \
                  trap 'ls -A \"$1\"; cat \"$1/calico\"' EXIT";
    let mut wrapped = Command::new("sh");
    wrapped.args(["-c", "\"$@\"; code=$?; ls -A \"$DIR\"; cat \"$DIR/calico\"; exit $code", "sh"]);
    wrapped.arg(command.get_program()).args(command.get_args());
    let output = with_mounts(
        &format!("{}; export DIR=\"$1\"", script.split("; trap").next().unwrap()),
        &rig.path("plugins"),
        &wrapped,
    );
    expect(&output, 75, &["No space left on device", "taken back"]);
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("calico\ntheirs\n"), "{}", text(&output));
    assert_eq!(rig.snapshot(), before);
}

#[test]
#[ignore = "mounts, which takes root"]
fn read_only_filesystems_change_nothing_and_say_so() {
    let (rig, before, _scratch) = rig();
    let read_only = "mount --bind \"$1\" \"$1\"; mount -o remount,ro,bind \"$1\"";
    let command = rig.command("apply", "one");
    // The journal cannot be written.
    fs::create_dir(rig.path("state")).unwrap();
    expect(&with_mounts(read_only, &rig.path("state"), &command), 77, &["Read-only file system", "state"]);
    fs::remove_dir(rig.path("state")).unwrap();
    assert_eq!(rig.snapshot(), before);
    // Where the agent looks.
    expect(&with_mounts(read_only, &rig.path("plugins"), &command), 78, &["directory that can be written"]);
    expect(&with_mounts(read_only, &rig.path("etc/net.d"), &command), 78, &["directory that can be written"]);
    assert_eq!(rig.snapshot(), before);
}
