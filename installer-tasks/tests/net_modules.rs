//! `net-modules` on hosts of Mesos 0.28: DC/OS 1.7, and plain Mesos in each way in which its agent is set up.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

mod support;
use support::old::{DCOS_COMMON, DCOS_MODULES, DCOS_PACKAGE, Kind, MODULES, Old, Wrong};
use support::{change_flag, expect, text};

const ALLOWED: &[&str] = &["--allow-restart"];
const ALL: [Kind; 4] = [Kind::DcOs, Kind::Packages, Kind::Defaults, Kind::Bare];

/// Our library in a file of modules, set in by so much.
fn entry(file: &str, unit: &str, depth: usize) -> String {
    let lines = format!(
        "{{\n>\"file\": \"{file}/libmesos_network_isolator.so\",\n>\"modules\": [\n>>{{\n>>>\"name\": \"{}\",\n>>>\"parameters\": \
         [\n>>>>{{\n>>>>>\"key\": \"isolator_command\",\n>>>>>\"value\": \"/calico/calico_mesos\"\n>>>>}},\n>>>>{{\n>>>>>\"key\": \
         \"ipam_command\",\n>>>>>\"value\": \"/calico/calico_mesos\"\n>>>>}}\n>>>]\n>>}},\n>>{{\n>>>\"name\": \"{}\"\n>>}}\n>]\n}}",
        MODULES[0], MODULES[1]
    );
    lines.replace('>', unit).replace('\n', &format!("\n{}", unit.repeat(depth)))
}

/// A file of modules that has only ours.
fn own_modules() -> String {
    format!("{{\n    \"libraries\": [\n        {}\n    ]\n}}\n", entry("/opt/net-modules", "    ", 2))
}

/// What each kind of host has of it when it is installed.
fn installed(kind: Kind) -> Vec<(String, String)> {
    let [isolator, hook] = MODULES;
    let pairs = |pairs: &[(&str, String)]| {
        pairs.iter().map(|(path, text)| ((*path).to_owned(), text.clone())).collect()
    };
    let modules = ("calico/modules.json", own_modules());
    match kind {
        Kind::DcOs => {
            let common = DCOS_COMMON
                .replace("StatsIsolatorModule", &format!("StatsIsolatorModule,{isolator}"))
                .replace("StatsEnvHook", &format!("StatsEnvHook,{hook}"));
            let end = "\n  ]\n}\n";
            let modules = format!(
                "{},\n    {}{end}",
                DCOS_MODULES.strip_suffix(end).unwrap(),
                entry("/opt/mesosphere/lib", "  ", 2)
            );
            vec![
                (format!("{DCOS_PACKAGE}/mesos-slave-common"), common),
                (format!("{DCOS_PACKAGE}/mesos-slave-modules.json"), modules),
            ]
        }
        Kind::Packages => pairs(&[
            modules,
            ("etc/mesos-slave/modules", "file:///calico/modules.json\n".to_owned()),
            ("etc/mesos-slave/isolation", format!("posix/cpu,posix/mem,{isolator}\n")),
            ("etc/mesos-slave/hooks", format!("{hook}\n")),
            (
                "etc/default/mesos-slave",
                "MASTER=`cat /etc/mesos/zk`\nETCD_AUTHORITY=\"127.0.0.1:2379\"\n".to_owned(),
            ),
        ]),
        Kind::Defaults => pairs(&[
            modules,
            (
                "etc/default/mesos-slave",
                format!(
                    "# by hand\nMESOS_WORK_DIR=/var/lib/mesos\nMESOS_ISOLATION=cgroups/cpu,{isolator}\n\
                     MESOS_MODULES=\"file:///calico/modules.json\"\nMESOS_HOOKS=\"{hook}\"\nETCD_AUTHORITY=\"127.0.0.1:2379\"\n"
                ),
            ),
        ]),
        Kind::Bare => pairs(&[
            modules,
            (
                "etc/systemd/system/mesos-slave.service.d/calico-dcos.conf",
                format!(
                    "[Service]\nEnvironment=\"MESOS_MODULES=file:///calico/modules.json\"\n\
                     Environment=\"MESOS_ISOLATION=posix/cpu,posix/mem,{isolator}\"\nEnvironment=\"MESOS_HOOKS={hook}\"\n\
                     Environment=\"ETCD_AUTHORITY=127.0.0.1:2379\"\n"
                ),
            ),
        ]),
    }
}

fn library(kind: Kind) -> &'static str {
    match kind {
        Kind::DcOs => "opt/mesosphere/lib/libmesos_network_isolator.so",
        _ => "opt/net-modules/libmesos_network_isolator.so",
    }
}

fn restart(host: &Old) -> Vec<String> {
    let unit = if host.kind == Kind::DcOs { "dcos-mesos-slave.service" } else { "mesos-slave.service" };
    let reload = (host.kind == Kind::Bare).then(|| "reload".to_owned());
    reload.into_iter().chain([format!("restart {unit}")]).collect()
}

/// Everything below the host's root, with when it was changed.
fn stamps(host: &Old) -> Vec<(PathBuf, u64, i64, i64)> {
    let stamp = |path: PathBuf| {
        let metadata = fs::symlink_metadata(host.root.path().join(&path)).unwrap();
        (path, metadata.ino(), metadata.mtime(), metadata.mtime_nsec())
    };
    host.snapshot().into_keys().map(stamp).collect()
}

#[test]
#[ignore = "mounts, which takes root"]
fn an_agent_is_given_the_modules_where_it_looks_once_and_has_them_taken_again_to_the_byte() {
    for kind in ALL {
        let host = Old::new(kind);
        let before = host.snapshot();
        let words =
            ["must be restarted: it has not loaded com_mesosphere_mesos_NetworkIsolator and", "NetworkHook"];
        expect(&host.run("apply", &[]), 79, &[&words[..], &["nothing was changed"]].concat());
        expect(&host.run("check", &[]), 79, &words);
        assert_eq!((host.snapshot(), host.asked()), (before.clone(), Vec::new()), "{kind:?}");

        expect(&host.run("apply", ALLOWED), 0, &["installed and verified", "restart the Mesos agent"]);
        assert_eq!(host.asked(), restart(&host));
        assert!(host.has_modules(), "{kind:?}");
        for (place, expected) in installed(kind) {
            assert_eq!(host.text(&place), expected, "{place}");
        }
        for (place, content) in [(library(kind), "library"), ("calico/calico_mesos", "program")] {
            assert_eq!(host.text(place), content);
            assert_eq!(
                fs::metadata(host.path(place)).unwrap().permissions().mode() & 0o7777,
                0o755,
                "{place}"
            );
        }
        if kind == Kind::DcOs {
            // Its files are still links into the package.
            for name in ["mesos-slave-common", "mesos-slave-modules.json"] {
                assert!(host.path("opt/mesosphere/etc").join(name).is_symlink());
            }
            assert_eq!(host.authority(), None, "calico_mesos looks there by itself");
        } else {
            assert_eq!(host.authority().as_deref(), Some("127.0.0.1:2379"));
        }

        let stamped = stamps(&host);
        expect(&host.run("apply", ALLOWED), 0, &["nothing to do"]);
        expect(&host.run("check", &[]), 0, &["nothing to do"]);
        assert_eq!((stamps(&host), host.asked()), (stamped, Vec::new()), "{kind:?}");

        let all = host.snapshot();
        expect(&host.undo(&[]), 79, &["--allow-restart", "nothing was changed"]);
        assert_eq!(host.snapshot(), all);
        let undone = host.undo(ALLOWED);
        expect(&undone, 0, &["restart the Mesos agent", "removed"]);
        assert_eq!(host.snapshot(), before, "{kind:?}: {}", text(&undone));
        assert_eq!(host.asked(), restart(&host));
        assert!(!host.has_modules());
        expect(&host.undo(&[]), 0, &["nothing to take back"]);
    }
}

#[test]
#[ignore = "mounts, which takes root"]
fn what_is_lost_is_put_back_and_what_is_new_takes_a_restart_only_where_the_agent_has_read_it() {
    for kind in ALL {
        let host = Old::new(kind);
        let before = host.snapshot();
        expect(&host.run("apply", ALLOWED), 0, &[]);
        host.asked();
        // Whether the agent was started while it was lost is not known; only `calico_mesos` is not for it to read.
        let all: Vec<String> = installed(kind).into_iter().map(|(place, _)| place).collect();
        for place in [library(kind), "calico/calico_mesos"].into_iter().chain(all.iter().map(String::as_str))
        {
            let is = host.text(place);
            if before.contains_key(Path::new(place)) {
                fs::write(host.path(place), before[Path::new(place)].4.clone()).unwrap();
            } else {
                fs::remove_file(host.path(place)).unwrap();
            }
            let (code, restarts) =
                if place == "calico/calico_mesos" { (1, Vec::new()) } else { (79, restart(&host)) };
            expect(&host.run("check", &[]), code, &[place]);
            expect(&host.run("apply", ALLOWED), 0, &[place]);
            assert_eq!((host.text(place), host.asked()), (is, restarts), "{place}");
        }
        // calico_mesos is run anew for each container, a library is read once.
        let apply =
            |library: &str, more: &[&str]| host.step("apply", library, "program 2", more).output().unwrap();
        expect(&apply("library", &[]), 0, &["calico_mesos: its content differs"]);
        let words = ["must be restarted: it reads /", "libmesos_network_isolator.so only when it starts"];
        expect(&apply("library 2", &[]), 79, &words);
        expect(&apply("library 2", ALLOWED), 0, &[]);
        assert_eq!(host.asked(), restart(&host));
        assert_eq!(host.text(library(kind)), "library 2");
        // So is the address of etcd.
        let direct: &[&str] = &["--etcd-proxy", "direct"];
        expect(&apply("library 2", direct), 79, &["only when it starts"]);
        expect(&apply("library 2", &[direct, ALLOWED].concat()), 0, &[]);
        assert_eq!(host.authority().as_deref(), Some("10.0.0.1:2379"), "{kind:?}");
        host.asked();
        expect(&host.undo(ALLOWED), 0, &[]);
        assert_eq!(host.snapshot(), before, "{kind:?}");
    }
}

#[test]
#[ignore = "mounts, which takes root"]
fn a_file_of_modules_that_the_agent_has_already_gets_ours_too() {
    let theirs = "{\"libraries\": [ {\"name\": \"theirs\", \"file\": \"/opt/theirs.so\", \"modules\": []} ]}";
    let host = Old::with(Kind::Packages, "0.28.2", |root| {
        fs::create_dir_all(root.join("opt")).unwrap();
        fs::write(root.join("opt/theirs.so"), "ELF").unwrap();
        fs::write(root.join("etc/mesos-modules.json"), theirs).unwrap();
        fs::set_permissions(root.join("etc/mesos-modules.json"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::write(root.join("etc/mesos-slave/modules"), "file:///etc/mesos-modules.json").unwrap();
        fs::write(root.join("etc/mesos-slave/isolation"), "cgroups/cpu,cgroups/mem").unwrap();
    });
    let before = host.snapshot();
    expect(&host.run("apply", ALLOWED), 0, &["write /etc/mesos-modules.json"]);
    assert!(host.has_modules() && host.flag("modules").unwrap().contains("theirs"));
    let modules: Value = serde_json::from_str(&host.text("etc/mesos-modules.json")).unwrap();
    let files: Vec<_> = modules["libraries"].as_array().unwrap().iter().map(|it| &it["file"]).collect();
    assert_eq!(files, ["/opt/theirs.so", "/opt/net-modules/libmesos_network_isolator.so"]);
    assert_eq!(
        fs::metadata(host.path("etc/mesos-modules.json")).unwrap().permissions().mode() & 0o7777,
        0o640
    );
    assert!(!host.path("calico/modules.json").exists());
    assert_eq!(host.text("etc/mesos-slave/modules"), "file:///etc/mesos-modules.json");
    assert_eq!(host.text("etc/mesos-slave/isolation"), format!("cgroups/cpu,cgroups/mem,{}", MODULES[0]));
    expect(&host.undo(ALLOWED), 0, &[]);
    assert_eq!(host.snapshot(), before);
}

#[test]
#[ignore = "mounts, which takes root"]
fn an_agent_that_does_not_come_back_as_it_was_has_everything_taken_back() {
    for (wrong, words) in [
        (Wrong::Unregistered, "did not register again within 3 s of its restart (it is not registered)"),
        (Wrong::OtherId, "its ID is S2, and was S1"),
        (
            Wrong::Deaf,
            "has not loaded com_mesosphere_mesos_NetworkIsolator and com_mesosphere_mesos_NetworkHook all the same",
        ),
        (Wrong::Dead, "did not register again"),
    ] {
        for kind in [Kind::DcOs, Kind::Packages] {
            let host = Old::new(kind);
            let before = host.snapshot();
            *host.wrong.lock().unwrap() = wrong;
            expect(&host.run("apply", ALLOWED), 78, &[words, "all changes of this run were taken back"]);
            assert_eq!(host.snapshot(), before, "{wrong:?}");
            assert_eq!(
                host.asked(),
                [restart(&host), restart(&host)].concat(),
                "once with the modules, once without them"
            );
            assert!(host.flag("isolation").is_some() && !host.has_modules());
            // Mended, it is done.
            *host.wrong.lock().unwrap() = Wrong::Nothing;
            expect(&host.run("apply", ALLOWED), 0, &[]);
        }
    }
}

#[test]
#[ignore = "mounts, which takes root"]
fn tasks_are_named_that_a_restart_ends_or_that_have_addresses_of_their_own() {
    let host = Old::new(Kind::DcOs);
    let told = |address: &str| {
        let addresses = json!([{ "ip_addresses": [{ "ip_address": address }] }]);
        json!([{ "state": "TASK_RUNNING", "container_status": { "network_infos": addresses } }])
    };
    let executors = json!([{ "id": "e", "tasks": [{ "id": "job-1", "statuses": told("10.0.0.11") }] }]);
    host.tell_of_frameworks(&json!([
        { "id": "F1", "name": "chronos", "checkpoint": false, "executors": executors },
        { "id": "F2", "name": "marathon", "checkpoint": true, "executors": executors },
    ]));
    let words = ["that ends tasks of frameworks that do not checkpoint: job-1 of framework chronos (F1)"];
    let refused = host.run("apply", &[]);
    expect(&refused, 79, &words);
    assert!(!text(&refused).contains("marathon"), "{}", text(&refused));
    let applied = host.run("apply", ALLOWED);
    expect(&applied, 0, &words);
    let said = String::from_utf8_lossy(&applied.stderr);
    assert!(said.find(words[0]) < said.find("restart the Mesos agent"), "{said}");

    let executors = json!([{ "id": "e", "tasks": [
        { "id": "web", "statuses": told("192.168.0.7") }, { "id": "host", "statuses": told("10.0.0.11") },
    ] }]);
    host.tell_of_frameworks(
        &json!([{ "id": "F2", "name": "marathon", "checkpoint": true, "executors": executors }]),
    );
    let all = host.snapshot();
    let held = host.undo(ALLOWED);
    expect(&held, 75, &["web (192.168.0.7) of framework marathon (F2)", "calico_mesos", "--force"]);
    assert!(!text(&held).contains("host ("), "{}", text(&held));
    assert_eq!(host.snapshot(), all);
    expect(&host.undo(&["--allow-restart", "--force"]), 0, &["web"]);
    assert!(!host.has_modules());
}

#[test]
#[ignore = "mounts, which takes root"]
fn an_undo_says_what_its_restart_ends_and_is_refused_where_that_is_all() {
    let host = Old::new(Kind::Packages);
    let before = host.snapshot();
    expect(&host.run("apply", ALLOWED), 0, &[]);
    host.asked();
    let addresses = json!([{ "ip_addresses": [{ "ip_address": "10.0.0.11" }] }]);
    let told = json!([{ "state": "TASK_RUNNING", "container_status": { "network_infos": addresses } }]);
    let executors = json!([{ "id": "e", "tasks": [{ "id": "job-1", "statuses": told }] }]);
    host.tell_of_frameworks(
        &json!([{ "id": "F1", "name": "chronos", "checkpoint": false, "executors": executors }]),
    );
    let words = "that ends tasks of frameworks that do not checkpoint: job-1 of framework chronos (F1)";
    let all = host.snapshot();
    expect(&host.undo(&[]), 79, &[words, "nothing was changed"]);
    // What its restart would end may have become another since it was installed.
    host.systemd.set_kill_mode("control-group");
    expect(&host.undo(ALLOWED), 78, &["KillMode is control-group"]);
    expect(&host.undo(&["--allow-restart", "--force"]), 78, &["KillMode is control-group"]);
    host.systemd.set_kill_mode("process");
    change_flag(&host.documents, "recover", "cleanup");
    expect(&host.undo(ALLOWED), 78, &["--recover=cleanup"]);
    assert_eq!((host.snapshot(), host.asked()), (all, Vec::new()));
    change_flag(&host.documents, "recover", "reconnect");
    let undone = host.undo(ALLOWED);
    expect(&undone, 0, &[words]);
    let said = String::from_utf8_lossy(&undone.stderr);
    assert!(said.find(words) < said.find("restart the Mesos agent"), "{said}");
    assert_eq!(host.snapshot(), before);
}

#[test]
#[ignore = "mounts, which takes root"]
fn the_programs_stay_while_an_agent_has_them_loaded() {
    let host = Old::new(Kind::Packages);
    let before = host.snapshot();
    expect(&host.run("apply", ALLOWED), 0, &[]);
    host.asked();
    // A task that has its address already, and of which nothing was told yet.
    let framework = |executor: Value| json!([{ "id": "F2", "name": "marathon", "checkpoint": true, "executors": [executor] }]);
    for executor in [
        json!({ "id": "e", "queued_tasks": [{ "id": "web" }] }),
        json!({ "id": "e", "tasks": [{ "id": "web" }] }),
    ] {
        host.tell_of_frameworks(&framework(executor));
        expect(&host.undo(ALLOWED), 75, &["web (of no known address) of framework marathon (F2)"]);
    }
    host.tell_of_frameworks(&json!([]));
    // Only the programs are left of it, and an agent has them again.
    fs::write(host.path("calico/calico_mesos"), "patched").unwrap();
    expect(&host.undo(ALLOWED), 78, &["calico_mesos was changed by someone else"]);
    fs::write(host.path("calico/calico_mesos"), "program").unwrap();
    assert!(!host.has_modules() && !host.path("calico/modules.json").exists());
    for (flag, value) in
        [("modules", MODULES.join(",").as_str()), ("isolation", MODULES[0]), ("hooks", MODULES[1])]
    {
        change_flag(&host.documents, flag, value);
    }
    expect(&host.undo(ALLOWED), 75, &["loaded again", "calico_mesos", "--force"]);
    assert!(host.path("calico/calico_mesos").exists());
    host.start_agent_again();
    expect(&host.undo(ALLOWED), 0, &[]);
    assert_eq!(host.snapshot(), before);
}

#[test]
#[ignore = "mounts, which takes root"]
fn what_an_agent_was_started_without_is_not_held_for_read() {
    for kind in [Kind::Packages, Kind::Defaults, Kind::Bare] {
        let host = Old::new(kind);
        expect(&host.run("apply", ALLOWED), 0, &[]);
        host.asked();
        // It is nowhere in an agent's flags.
        let (place, _) = installed(kind).pop().unwrap();
        let is = host.text(&place);
        fs::write(host.path(&place), is.replace("127.0.0.1:2379", "10.9.9.9:1")).unwrap();
        host.start_agent_again();
        let words = ["must be restarted: it reads /", &place, "only when it starts"];
        expect(&host.run("apply", &[]), 79, &words);
        expect(&host.run("apply", ALLOWED), 0, &[]);
        assert_eq!((host.text(&place), host.asked()), (is.clone(), restart(&host)), "{kind:?}");
        // Nor is it when someone else has put it back since.
        fs::remove_file(host.path(&place)).unwrap();
        fs::write(host.path(&place), &is).unwrap();
        // The kernel's clock for files is some milliseconds behind.
        while fs::metadata(host.path(&place)).unwrap().modified().unwrap() <= host.started() {
            fs::write(host.path(&place), &is).unwrap();
        }
        expect(&host.run("check", &[]), 79, &words);
    }
}

#[test]
#[ignore = "mounts, which takes root"]
fn what_others_changed_since_stays_when_ours_is_taken_out() {
    let host = Old::new(Kind::DcOs);
    expect(&host.run("apply", ALLOWED), 0, &[]);
    let (common, modules) =
        (format!("{DCOS_PACKAGE}/mesos-slave-common"), format!("{DCOS_PACKAGE}/mesos-slave-modules.json"));
    let change = |place: &str, from: &str, to: &str| {
        fs::write(host.path(place), host.text(place).replace(from, to)).unwrap();
    };
    change(&common, "GLOG_drop_log_memory=false", "GLOG_drop_log_memory=true");
    change(&modules, "libexec/mesos/", "libexec/other/");
    expect(&host.undo(ALLOWED), 0, &["took our part out of"]);
    assert_eq!(host.text(&common), DCOS_COMMON.replace("memory=false", "memory=true"));
    assert_eq!(host.text(&modules), DCOS_MODULES.replace("libexec/mesos/", "libexec/other/"));
    assert!(!host.path("var/lib/calico-dcos").exists() && !host.path("calico").exists());

    let host = Old::new(Kind::Packages);
    expect(&host.run("apply", ALLOWED), 0, &[]);
    let change = |place: &str, text: &str| fs::write(host.path(place), text).unwrap();
    change("etc/mesos-slave/isolation", &format!("posix/disk,{}\n", MODULES[0]));
    change("etc/default/mesos-slave", "ETCD_AUTHORITY=\"127.0.0.1:2379\"\nLOGS=/l\n");
    expect(&host.undo(ALLOWED), 0, &["took our part out of /etc/mesos-slave/isolation"]);
    assert_eq!(host.text("etc/mesos-slave/isolation"), "posix/disk\n");
    assert_eq!(host.text("etc/default/mesos-slave"), "LOGS=/l\n");
    // An address of etcd that someone has set since is theirs, whatever was there before.
    for before in ["ETCD_AUTHORITY=10.0.0.8:2379\n", ""] {
        let host = Old::with(Kind::Packages, "0.28.1", |root| {
            fs::write(root.join("etc/default/mesos-slave"), before).unwrap();
        });
        expect(&host.run("apply", &["--allow-restart", "--etcd-proxy", "direct"]), 0, &[]);
        let place = "etc/default/mesos-slave";
        assert!(host.text(place).contains("10.0.0.1:2379"));
        let theirs = host.text(place).replace("10.0.0.1:2379", "10.0.0.9:2379");
        fs::write(host.path(place), &theirs).unwrap();
        expect(&host.undo(ALLOWED), 0, &[]);
        assert_eq!(host.text(place), theirs);
    }
    // What cannot be told apart is left, unless that is forced.
    let host = Old::new(Kind::Packages);
    expect(&host.run("apply", ALLOWED), 0, &[]);
    fs::write(host.path("etc/mesos-slave/modules"), "file:///calico/modules.json # theirs").unwrap();
    expect(&host.undo(ALLOWED), 78, &["etc/mesos-slave/modules was changed by someone else"]);
    expect(&host.undo(&["--allow-restart", "--force"]), 0, &[]);
    assert!(!host.path("etc/mesos-slave/modules").exists());
}

#[test]
#[ignore = "mounts, which takes root"]
fn an_agent_that_is_away_is_waited_for_or_passed_over() {
    let host = Old::new(Kind::Packages);
    let before = host.snapshot();
    expect(&host.run("apply", ALLOWED), 0, &[]);
    let words = ["net-modules", "undo", "--mesos-agent", "http://127.0.0.1:1"];
    expect(&host.installer(&words).output().unwrap(), 69, &["--mesos-agent", "127.0.0.1:1"]);
    let forced = host.installer(&[&words[..], &["--force"]].concat()).output().unwrap();
    expect(&forced, 0, &["cannot tell what the agent has loaded"]);
    assert_eq!(host.snapshot(), before);
}

#[test]
#[ignore = "mounts, which takes root"]
fn status_shows_it_and_undo_all_takes_it_back() {
    let host = Old::new(Kind::DcOs);
    let before = host.snapshot();
    let status = || host.installer(&["status", "--mesos-agent", &host.agent]).output().unwrap();
    expect(&status(), 0, &["net-modules: not installed"]);
    expect(&host.run("apply", ALLOWED), 0, &[]);
    expect(
        &status(),
        0,
        &["net-modules: installed", "the agent has loaded com_mesosphere_mesos_NetworkHook"],
    );
    expect(&status(), 0, &["journal: /calico/calico_mesos"]);
    let all = |more: &[&str]| {
        let words = ["undo", "--all", "--mesos-agent", &host.agent, "--mesos-patience", "1"];
        host.installer(&[&words[..], more].concat()).output().unwrap()
    };
    expect(&all(&[]), 79, &["net-modules: ", "--allow-restart"]);
    expect(&all(ALLOWED), 0, &["net-modules: taken back"]);
    assert_eq!(host.snapshot(), before);
    let applied: Value = serde_json::from_slice(&host.run("check", &["--json"]).stdout).unwrap();
    assert_eq!((&applied["step"], &applied["verdict"]), (&json!("net-modules"), &json!("needs-restart")));
}

#[test]
#[ignore = "mounts, which takes root"]
fn preflight_says_that_there_is_this_way() {
    let host = Old::new(Kind::Packages);
    let found = host.installer(&["preflight", "--json", "--mesos-agent", &host.agent]).output().unwrap();
    let found: Value = serde_json::from_slice(&found.stdout).unwrap();
    let findings = found["findings"].as_array().unwrap();
    let agent: Vec<_> = findings.iter().filter(|it| it["check"] == "mesos-agent").collect();
    assert_eq!(agent.len(), 1, "{agent:?}");
    assert_eq!(agent[0]["severity"], "warning");
    assert!(
        agent[0]["text"].as_str().unwrap().contains("`calico-installer net-modules` by hand"),
        "{agent:?}"
    );
}
