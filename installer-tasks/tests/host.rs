//! The commands that look at the whole host, and what holds for the commands of every step.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

mod support;
use support::cni::Rig;
use support::{artifact, docker, expect, installer, kill, serve, text, tree};

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(output)))
}

/// `status`, `undo` or `preflight` on a rig.
fn command(rig: &Rig, arguments: &[&str]) -> Command {
    let mut command = installer();
    command.args(arguments).args(["--mesos-agent", &rig.agent, "--state-dir"]).arg(rig.path("state"));
    command
}

/// A step of `status`.
fn step<'a>(status: &'a Value, name: &str) -> &'a Value {
    status["steps"].as_array().unwrap().iter().find(|step| step["step"] == name).unwrap()
}

#[test]
fn a_check_prints_the_plan_as_text_and_as_json() {
    let rig = Rig::new();
    fs::write(rig.path("plugins/calico"), "theirs").unwrap();
    let checked = rig.run("check", "one", &["--json"]);
    expect(&checked, 1, &["error: cni is not as it should be"]);
    let plan = json_of(&checked);
    assert_eq!(
        (&plan["step"], &plan["verdict"], &plan["exit"]),
        (&json!("cni"), &json!("changes"), &json!(1))
    );
    let changes = plan["changes"].as_array().unwrap();
    let shown: Vec<_> =
        changes.iter().map(|it| (it["kind"].as_str().unwrap(), it["because"].as_str().unwrap())).collect();
    assert_eq!(
        shown,
        [
            ("file", "its content differs, its mode is 0644, not 0755"),
            ("file", "it is missing"),
            ("file", "it is missing")
        ]
    );
    expect(&rig.run("check", "one", &[]), 1, &["cni: to be done:", "plugins/calico-ipam: it is missing"]);

    let applied = rig.run("apply", "one", &["--json"]);
    assert_eq!(json_of(&applied)["changed"], true);
    assert_eq!(json_of(&rig.run("apply", "one", &["--json"]))["changed"], false);
    assert_eq!(json_of(&rig.run("check", "one", &["--json"]))["verdict"], "nothing-to-do");
    let undone = rig.undo(&["--json"]);
    assert_eq!(json_of(&undone)["items"][0]["outcome"], "removed");
}

#[test]
fn a_refusal_is_a_result_too() {
    let rig = Rig::with("0.28.3", &["plugins"]);
    for verb in ["check", "apply"] {
        let output = rig.run(verb, "one", &["--json"]);
        expect(&output, 78, &["Mesos 0.28"]);
        assert_eq!(json_of(&output)["verdict"], "refused", "{verb}");
        assert_eq!(json_of(&output)["exit"], 78, "{verb}");
    }
    assert!(!rig.path("state").exists());
}

#[test]
fn checks_and_status_change_nothing() {
    let rig = Rig::new();
    let look = || -> Vec<(PathBuf, u64, i64, i64)> {
        let stamp = |path: PathBuf| {
            let metadata = fs::symlink_metadata(rig.path("").join(&path)).unwrap();
            (path, metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
        };
        tree(rig.root.path()).into_iter().map(stamp).collect()
    };
    let scratch = tempfile::tempdir().unwrap();
    let all_change_nothing = |how: &str| {
        let check = rig.command("check", "one");
        for command in [check, command(&rig, &["status"]), command(&rig, &["preflight"])] {
            let before = look();
            let (_, points) = kill::points(&command, &scratch.path().join("log"));
            assert_eq!(look(), before, "{how}: {command:?}");
            let of_files = points.iter().filter(|point| point.path_below(rig.root.path()).is_some());
            assert_eq!(of_files.collect::<Vec<_>>(), [] as [&kill::Point; 0], "{how}: {command:?}");
            assert!(points.iter().any(|point| point.call == "exit_group"), "strace saw nothing");
        }
    };
    all_change_nothing("at first");
    expect(&rig.apply("one"), 0, &[]);
    all_change_nothing("installed");
    fs::write(rig.config(), "drifted").unwrap();
    fs::write(rig.path("plugins/.calico.calico-dcos"), "half").unwrap();
    all_change_nothing("drifted");
}

#[test]
fn status_tells_what_is_seen_apart_from_what_is_recorded() {
    let rig = Rig::new();
    let daemon_json = rig.path("daemon.json").display().to_string();
    let status = || {
        let output =
            command(&rig, &["status", "--json", "--docker-daemon-json", &daemon_json]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        json_of(&output)
    };
    let nothing = status();
    assert_eq!(step(&nothing, "cni")["seen"]["installed"], "no");
    assert_eq!(step(&nothing, "cni")["journal"], json!([]));
    assert_eq!(step(&nothing, "docker-cluster-store")["seen"]["installed"], "no");

    expect(&rig.apply("one"), 0, &[]);
    fs::write(&daemon_json, r#"{"cluster-store":"etcd://10.0.0.1:2379"}"#).unwrap();
    let all = status();
    assert_eq!(step(&all, "cni")["seen"]["installed"], "yes");
    assert!(step(&all, "cni")["journal"].as_array().unwrap().iter().all(|it| it["now"] == "as-written"));
    assert_eq!(step(&all, "docker-cluster-store")["seen"]["installed"], "yes", "though we did not do it");

    // An upgrade of DC/OS took a plugin away, and someone patched the other.
    fs::remove_file(rig.path("plugins/calico")).unwrap();
    fs::write(rig.path("plugins/calico-ipam"), "patched").unwrap();
    let differs = status();
    assert_eq!(step(&differs, "cni")["seen"]["installed"], "partly");
    let now: Vec<_> =
        step(&differs, "cni")["journal"].as_array().unwrap().iter().map(|it| it["now"].clone()).collect();
    assert_eq!(now, ["as-before", "changed-since", "as-written"]);

    // The journal is lost, and what is there is seen all the same.
    fs::remove_dir_all(rig.path("state")).unwrap();
    let lost = status();
    assert_eq!(step(&lost, "cni")["seen"]["installed"], "partly");
    assert_eq!(step(&lost, "cni")["journal"], json!([]));
    let shown = command(&rig, &["status", "--docker-daemon-json", &daemon_json]).output().unwrap();
    expect(&shown, 0, &["cni: installed in part", "no record"]);
}

#[test]
fn undo_all_takes_every_network_back_and_goes_on_after_a_failure() {
    let rig = Rig::new();
    let before = rig.snapshot();
    let install = |network: &str| {
        let mut apply = rig.command("apply", "one");
        apply.args(["--etcd-proxy", "direct"]);
        let arguments: Vec<_> =
            apply.get_args().map(|it| if it == "calico" { network.into() } else { it.to_owned() }).collect();
        expect(&installer().args(arguments).output().unwrap(), 0, &[]);
    };
    install("calico");
    install("other");
    // `calico` is in use, and `other` is taken back all the same.
    let user = rig.path("run/isolators/network/cni/c-1/calico/eth0");
    fs::create_dir_all(&user).unwrap();
    let undone = command(&rig, &["undo", "--all", "--json"]).output().unwrap();
    expect(&undone, 75, &["not everything was taken back: cni: containers use the network calico"]);
    assert!(rig.config().exists() && !rig.path("etc/net.d/other.conf").exists());
    assert_eq!(json_of(&undone)["failed"][0]["exit"], 75);
    fs::remove_dir_all(rig.path("run/isolators/network/cni/c-1")).unwrap();

    // An undo that was interrupted after the configuration: only plugins are left.
    fs::remove_file(rig.config()).unwrap();
    let journal = rig.path("state/journal.json");
    let mut document: Value = serde_json::from_slice(&fs::read(&journal).unwrap()).unwrap();
    document["entries"].as_array_mut().unwrap().retain(|entry| entry["staging"] != "outside");
    fs::write(&journal, document.to_string()).unwrap();
    expect(&command(&rig, &["undo", "--all"]).output().unwrap(), 0, &["removed"]);
    assert_eq!(rig.snapshot(), before);
    expect(&command(&rig, &["undo", "--all"]).output().unwrap(), 0, &["nothing to take back"]);
    assert_eq!(command(&rig, &["undo"]).output().unwrap().status.code(), Some(78), "undo without --all");
}

/// Who may ask an agent for its containers is a matter of its ACLs (`view_container`): without that, an install works, and an
/// undo cannot tell who uses the network.
#[test]
fn preflight_says_what_an_agents_permissions_keep_from_an_undo() {
    for (documents, severity, words) in [
        (vec!["/version", "/flags", "/containers"], "ok", "directories"),
        (vec!["/version", "/flags"], "warning", "undo takes --force"),
        (vec!["/version"], "FAULT", "/flags"),
        (vec![], "FAULT", "/version"),
    ] {
        let rig = Rig::new();
        let all = rig.documents();
        let permitted = documents.iter().map(|path| (*path, all[path].clone())).collect();
        let agent = format!("http://{}", serve(permitted));
        let mut preflight = installer();
        preflight.args(["preflight", "--docker-socket=/nonexistent", "--mesos-agent", &agent]);
        let said = text(&preflight.output().unwrap());
        let of_agent = said.lines().filter(|line| line.contains(" mesos-agent: "));
        let found = of_agent.clone().any(|line| line.starts_with(severity) && line.contains(words));
        assert!(found || severity == "ok", "{documents:?}: {said}");
        assert_eq!(severity == "ok", of_agent.clone().all(|line| line.starts_with("ok")), "{said}");
    }
}

/// calico-installer has no login for agents: the operator must know what to open, or who asks.
#[test]
fn an_agent_that_wants_a_login_is_named_with_what_to_do() {
    for (status, words) in [
        ("401 Unauthorized", "has no login for agents"),
        ("403 Forbidden", "must be allowed to everybody in its --acls"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let agent = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                let _ =
                    stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes());
            }
        });
        let said = installer()
            .args(["preflight", "--docker-socket=/nonexistent", "--mesos-agent", &agent])
            .output()
            .unwrap();
        let words = ["/version", &status[..3], words, "/flags, /containers, /state and /metrics/snapshot"];
        expect(&said, 78, &words);
    }
}

#[test]
fn a_second_installer_waits_for_the_first() {
    let rig = Rig::new();
    // The lock as another process of ours holds it, killed in the end as a task may be.
    fs::create_dir(rig.path("state")).unwrap();
    let mut holder = Command::new("flock")
        .arg("--no-fork")
        .arg(rig.path("state"))
        .args(["sh", "-c", "echo locked; exec sleep 60"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let refused = rig.run("apply", "one", &["--lock-timeout", "1"]);
    let waiting =
        rig.command("apply", "one").args(["--lock-timeout", "60"]).stdout(Stdio::piped()).spawn().unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    expect(&refused, 75, &["another calico-installer is at work on this host and was waited for 1 s"]);
    assert!(!rig.path("plugins/calico-ipam").exists() || rig.config().exists());
    let waited = waiting.wait_with_output().unwrap();
    expect(&waited, 0, &["installed"]);
}

#[test]
fn preflight_has_all_findings_at_once() {
    let rig = Rig::with("1.1.0", &["plugins"]);
    let etcd = format!("http://{}", serve(HashMap::from([("/health", r#"{"health":"true"}"#.to_owned())])));
    let good = artifact(&rig.path("calico"), b"calico");
    let wrong = format!("{}#sha256={}", rig.path("calico").display(), "0".repeat(64));
    let run = |arguments: &[&str]| {
        let preflight = ["preflight", "--json", "--network-encapsulation", "none"];
        command(&rig, &[&preflight[..], arguments].concat()).output().unwrap()
    };
    let of = |output: &Output, check: &str| -> Vec<String> {
        let findings = json_of(output)["findings"].as_array().unwrap().clone();
        let of_it = findings.iter().filter(|it| it["check"] == check);
        of_it.map(|it| it["severity"].as_str().unwrap().to_owned()).collect()
    };
    let socket = rig.path("docker.sock").display().to_string();
    let output =
        run(&["--docker-socket", &socket, "--etcd-endpoints", "http://127.0.0.1:1", "--artifact", &wrong]);
    expect(&output, 78, &["docker: Docker does not answer", "etcd: the datastore is not reached", "SHA-256"]);
    assert_eq!(of(&output, "docker"), ["fault"]);
    assert_eq!(of(&output, "etcd"), ["fault"]);
    assert_eq!(of(&output, "artifacts"), ["fault"]);
    assert_eq!(of(&output, "mesos-agent"), ["warning", "ok"], "Mesos 1.1 takes a restart");

    let rig = Rig::new();
    docker::serve(&rig.path("docker.sock"), docker::V20_10, |_| None);
    let output = command(&rig, &["preflight", "--json", "--network-encapsulation", "none"])
        .arg("--docker-socket")
        .arg(rig.path("docker.sock"))
        .args(["--etcd-endpoints", &etcd, "--artifact", &good])
        .output()
        .unwrap();
    for check in ["docker", "etcd", "artifacts", "journal"] {
        assert_eq!(of(&output, check), ["ok"], "{check}: {}", text(&output));
    }
    assert_eq!(of(&output, "mesos-agent"), ["ok", "ok"]);

    // What is not given is not checked, which is said.
    for (more, severity, words) in [
        (&[][..], "skipped", &["not checked against 500", "--agents"][..]),
        (&["--agents", "500"], "ok", &["500 agents"]),
        (&["--agents", "501"], "warning", &["501 agents are more than 500", "docker.cluster-store"]),
        (&["--agents", "501", "--docker-max-agents", "501"], "ok", &["501 at most"]),
    ] {
        let output = run(more);
        assert_eq!(of(&output, "docker.max-agents"), [severity], "{more:?}");
        assert!(words.iter().all(|word| text(&output).contains(word)), "{more:?}: {}", text(&output));
    }
}

/// Findings are data: what was looked at, how it is meant, what was found.
#[test]
fn preflight_tells_what_a_cluster_of_this_size_and_others_addresses_do_not_let_in() {
    let rig = Rig::new();
    let run = |arguments: &[&str]| {
        let preflight = ["preflight", "--json", "--docker-socket", "/nonexistent"];
        command(&rig, &[&preflight[..], arguments].concat()).output().unwrap()
    };
    let of = |output: &Output, check: &str| -> Vec<(String, String)> {
        let findings = json_of(output)["findings"].as_array().unwrap().clone();
        let text = |it: &Value, name: &str| it[name].as_str().unwrap().to_owned();
        let of_it = findings.iter().filter(|it| it["check"] == check);
        of_it.map(|it| (text(it, "severity"), text(it, "text"))).collect()
    };
    for (arguments, check, severity, words) in [
        (
            &["--agents", "1025", "--network-pool-cidr", "203.0.113.0/24"][..],
            "network.pool-cidr",
            "fault",
            "a larger pool",
        ),
        (
            &["--agents", "4", "--network-pool-cidr", "203.0.113.0/24"],
            "network.pool-cidr",
            "ok",
            "4 blocks of /26",
        ),
        (
            &["--agents", "101", "--network-encapsulation", "ipip"],
            "network.route-reflectors",
            "fault",
            "101 agents",
        ),
        (
            &["--agents", "101", "--network-encapsulation", "ipip", "--network-route-reflectors"],
            "network.route-reflectors",
            "ok",
            "route reflectors",
        ),
        (&["--network-pool-cidr", "203.0.113.0/24"], "pool", "ok", "nobody else's"),
        (&[], "pool", "skipped", "--network-pool-cidr"),
        (&["--etcd-endpoints", "https://127.0.0.1:1"], "etcd", "fault", "--etcd-ca must give"),
    ] {
        let output = run(arguments);
        let found = of(&output, check);
        assert!(
            found.len() == 1 && found[0].0 == severity && found[0].1.contains(words),
            "{arguments:?}: {found:?}"
        );
        if severity == "fault" {
            expect(&output, 78, &[words]);
        }
    }
    for (arguments, words) in [
        (&["--network-pool-cidr", "192.168.0.1/16"][..], "--network-pool-cidr"),
        (&["--network-block-size", "8"], "--network-block-size"),
        (&["--network-route-reflectors=3"], "--network-route-reflectors"),
        (&["--node-profile", "v1"], "v3, v2.6"),
        (&["--node-backend", "quagga"], "bird, vxlan, none"),
    ] {
        expect(&run(arguments), 78, &[words]);
    }
}
