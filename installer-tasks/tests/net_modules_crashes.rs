//! `net-modules` is killed at every point where it changes something or asks for the restart.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::process::Command;

use calico_installer::host::files::changed_at;

mod support;
use support::kill::{self, Point};
use support::old::{Kind, Old};
use support::{Snapshot, expect, text};

const ALLOWED: &[&str] = &["--allow-restart"];

/// A host, and how it looks.
fn host(kind: Kind) -> (Old, Snapshot) {
    let host = Old::new(kind);
    let before = host.snapshot();
    (host, before)
}

fn assert_taken_back(host: &Old, before: &Snapshot, how: &str) {
    let undone = host.undo(ALLOWED);
    assert!(undone.status.success(), "{how}: {}", text(&undone));
    assert_eq!(host.snapshot(), *before, "{how}");
    assert!(!host.has_modules(), "{how}");
}

/// Kills `command` everywhere. Whenever it dies, an agent that is started then runs; `after` sees what can be done next.
fn killed_anywhere(
    host: &Old,
    before: impl Fn(),
    command: impl Fn() -> Command,
    after: impl Fn(&str),
    least: usize,
) {
    let mut around_the_restart = false;
    let interest = |at: &Point| at.changes_a_file_or_asks_for(&["RestartUnit"]);
    let killed = kill::at_points(&host.log(), before, command, interest, |at| {
        let how = at.to_string();
        around_the_restart |= how.contains("RestartUnit");
        assert_eq!(host.would_start(), Ok(()), "{how}");
        after(&how);
    });
    println!("{:?}: killed at {killed} points", host.kind);
    assert!(killed > least && around_the_restart, "so few points cannot be all: {killed}");
}

fn install_killed_anywhere(kind: Kind) {
    let (host, before) = host(kind);
    let undone = || assert_taken_back(&host, &before, "at first");
    let finished = |how: &str| {
        let applied = host.run("apply", ALLOWED);
        assert!(applied.status.success(), "{how}: {}", text(&applied));
        assert!(host.has_modules(), "{how}");
        expect(&host.run("check", &[]), 0, &[]);
        assert_taken_back(&host, &before, how);
    };
    killed_anywhere(&host, undone, || host.step("apply", "library", "program", ALLOWED), finished, 60);
}

#[test]
#[ignore = "mounts, which takes root"]
fn an_install_on_dcos_killed_anywhere_is_finished_by_the_next_and_can_be_undone() {
    install_killed_anywhere(Kind::DcOs);
}

#[test]
#[ignore = "mounts, which takes root"]
fn an_install_on_plain_mesos_killed_anywhere_is_finished_by_the_next_and_can_be_undone() {
    install_killed_anywhere(Kind::Packages);
}

#[test]
#[ignore = "mounts, which takes root"]
fn what_a_killed_install_left_can_be_undone_at_once() {
    for kind in [Kind::DcOs, Kind::Defaults] {
        let (host, before) = host(kind);
        let undone = || assert_taken_back(&host, &before, "at first");
        let at_once = |how: &str| assert_taken_back(&host, &before, how);
        killed_anywhere(&host, undone, || host.step("apply", "library", "program", ALLOWED), at_once, 60);
    }
}

#[test]
#[ignore = "mounts, which takes root"]
fn an_upgrade_killed_anywhere_is_finished_by_the_next() {
    let (host, before) = host(Kind::DcOs);
    let library = "opt/mesosphere/lib/libmesos_network_isolator.so";
    let old = || {
        assert_taken_back(&host, &before, "at first");
        expect(&host.run("apply", ALLOWED), 0, &[]);
    };
    let upgrade = || host.step("apply", "library 2", "program 2", ALLOWED);
    let finished = |how: &str| {
        let applied = upgrade().output().unwrap();
        assert!(applied.status.success(), "{how}: {}", text(&applied));
        assert_eq!(host.text(library), "library 2", "{how}");
        assert!(changed_at(&host.path(library)).unwrap() < host.started(), "it is not read: {how}");
        let check = host.step("check", "library 2", "program 2", &[]).output().unwrap();
        expect(&check, 0, &["nothing to do"]);
    };
    killed_anywhere(&host, old, upgrade, finished, 30);
}

#[test]
#[ignore = "mounts, which takes root"]
fn an_undo_killed_anywhere_is_finished_by_the_next() {
    for kind in [Kind::DcOs, Kind::Packages] {
        let (host, before) = host(kind);
        let installed = || expect(&host.run("apply", ALLOWED), 0, &[]);
        let undone = |how: &str| assert_taken_back(&host, &before, how);
        killed_anywhere(&host, installed, || host.undo_command(ALLOWED), undone, 30);
    }
}
