//! `cni` where the Mesos agent must be restarted: flags that it lacks, versions that load networks only when they start.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

use calico_installer::host::files::changed_at;
use serde_json::{Value, json};

mod support;
use support::plain::{Plain, Start, Wrong};
use support::{change_flag, expect, kill, text};

const ALLOWED: &[&str] = &["--allow-restart"];

#[test]
#[ignore = "mounts, which takes root"]
fn an_agent_without_cni_is_given_it_where_its_unit_looks_and_has_it_taken_again() {
    for (start, unit, place, expected) in [
        (Start::Wrapper, "mesos-slave.service", "etc/mesos-slave/network_cni_config_dir", "/etc/cni/net.d\n"),
        (
            Start::Defaults,
            "mesos-agent.service",
            "etc/default/mesos-agent",
            "# by hand\nMESOS_WORK_DIR=/var/lib/mesos\nMESOS_NETWORK_CNI_PLUGINS_DIR=\"/opt/cni/bin\"\n\
             MESOS_NETWORK_CNI_CONFIG_DIR=\"/etc/cni/net.d\"\n",
        ),
        (
            Start::Bare,
            "mesos-agent.service",
            "etc/systemd/system/mesos-agent.service.d/calico-dcos.conf",
            "[Service]\nEnvironment=\"MESOS_NETWORK_CNI_PLUGINS_DIR=/opt/cni/bin\"\n\
             Environment=\"MESOS_NETWORK_CNI_CONFIG_DIR=/etc/cni/net.d\"\n",
        ),
    ] {
        let host = Plain::new(start);
        let before = host.snapshot();
        let words = [unit, "must be restarted", "CNI is not enabled on this agent", "nothing was changed"];
        expect(&host.run("apply", &[]), 79, &words);
        expect(&host.run("check", &[]), 79, &words[..3]);
        assert_eq!((host.snapshot(), host.asked()), (before.clone(), Vec::new()));

        expect(&host.run("apply", ALLOWED), 0, &["installed and verified", "restart the Mesos agent"]);
        let restart = format!("restart {unit}");
        let asked = if start == Start::Bare { vec!["reload".to_owned(), restart] } else { vec![restart] };
        assert_eq!(host.asked(), asked);
        assert_eq!(fs::read_to_string(host.path(place)).unwrap(), expected);
        assert_eq!(host.flag("network_cni_plugins_dir").as_deref(), Some("/opt/cni/bin"));
        assert_eq!(fs::read(host.path("opt/cni/bin/calico")).unwrap(), b"calico");
        assert!(host.path("etc/cni/net.d/calico.conf").exists());
        expect(&host.run("apply", &[]), 0, &["nothing to do"]);
        // What is lost of it is put back without a restart, for the agent has it.
        fs::remove_file(host.path(place)).unwrap();
        expect(&host.run("apply", &[]), 0, &[place]);
        assert_eq!(host.asked(), Vec::<String>::new());

        expect(&host.undo(&["--complete"]), 79, &["nothing was changed", "--allow-restart"]);
        assert!(host.path("etc/cni/net.d/calico.conf").exists());
        if start == Start::Defaults {
            // What was lost there was an administrator's, too.
            assert!(host.snapshot() != before);
        }
        let undone = host.undo(&["--complete", "--allow-restart"]);
        expect(&undone, 0, &["restart the Mesos agent", "removed"]);
        assert_eq!(host.flag("network_cni_plugins_dir"), None, "{}", text(&undone));
        assert_eq!(host.snapshot(), before, "{start:?}: {}", text(&undone));
    }
}

#[test]
#[ignore = "mounts, which takes root"]
fn without_permission_undo_leaves_what_the_agent_has_in_memory() {
    let host = Plain::new(Start::Wrapper);
    let before = host.snapshot();
    expect(&host.run("apply", ALLOWED), 0, &[]);
    host.asked();
    expect(
        &host.undo(&[]),
        0,
        &["until its next start", "/etc/cni/net.d stays: it is in use", "/opt/cni/bin stays"],
    );
    assert_eq!(host.asked(), Vec::<String>::new());
    // Its next start finds no flags, and what is left is two empty directories.
    let left: Vec<_> = host.snapshot().into_keys().filter(|path| !before.contains_key(path)).collect();
    let expected = ["etc/cni", "etc/cni/net.d", "opt/cni", "opt/cni/bin"].map(PathBuf::from);
    assert_eq!(left, expected);
}

#[test]
#[ignore = "mounts, which takes root"]
fn flags_that_another_network_needs_stay() {
    let host = Plain::new(Start::Wrapper);
    expect(&host.run("apply", ALLOWED), 0, &[]);
    let theirs = host.path("etc/cni/net.d/theirs.conf");
    fs::write(&theirs, r#"{"name":"theirs","type":"bridge"}"#).unwrap();
    expect(&host.undo(ALLOWED), 78, &["theirs.conf", "configures another network", "--force"]);
    assert!(host.path("etc/cni/net.d/calico.conf").exists());
    fs::remove_file(theirs).unwrap();
    // A container of any network would be left behind by an agent without CNI.
    let user = host.path("run/isolators/network/cni/c-1/other/eth0");
    fs::create_dir_all(&user).unwrap();
    expect(&host.undo(ALLOWED), 75, &["c-1", "CNI networks"]);
    fs::remove_dir_all(host.path("run/isolators/network/cni/c-1")).unwrap();
    expect(&host.undo(ALLOWED), 0, &[]);
}

#[test]
#[ignore = "mounts, which takes root"]
fn what_an_administrator_added_since_stays_in_the_file_of_variables() {
    let host = Plain::new(Start::Defaults);
    expect(&host.run("apply", ALLOWED), 0, &[]);
    let file = host.path("etc/default/mesos-agent");
    let with_more = fs::read_to_string(&file).unwrap() + "MESOS_ATTRIBUTES=rack:1\n";
    fs::write(&file, with_more).unwrap();
    expect(&host.undo(ALLOWED), 0, &["took our part out of"]);
    let expected = "# by hand\nMESOS_WORK_DIR=/var/lib/mesos\nMESOS_ATTRIBUTES=rack:1\n";
    assert_eq!(fs::read_to_string(file).unwrap(), expected);
}

#[test]
#[ignore = "mounts, which takes root"]
fn mesos_1_0_and_1_1_load_a_network_by_one_restart() {
    let flags = [("network_cni_plugins_dir", "/opt/cni/bin"), ("network_cni_config_dir", "/etc/cni/net.d")];
    for version in ["1.0.4", "1.1.3"] {
        let host = Plain::with(Start::Wrapper, version, &flags);
        let before = host.snapshot();
        let words = [
            "mesos-slave.service must be restarted: Mesos 1.",
            "loads a CNI network only when the agent starts",
        ];
        expect(&host.run("apply", &[]), 79, &words);
        assert_eq!((host.snapshot(), host.asked()), (before.clone(), Vec::new()));
        expect(&host.run("apply", ALLOWED), 0, &["restart the Mesos agent"]);
        let restart = ["restart mesos-slave.service".to_owned()];
        assert_eq!(host.asked(), restart);
        expect(&host.run("check", &[]), 0, &[]);
        // Plugins are run as they are; another configuration is not seen.
        fs::write(host.path("opt/cni/bin/calico-ipam"), "drifted").unwrap();
        expect(&host.run("apply", &[]), 0, &["calico-ipam"]);
        expect(&host.run("apply", &["--network-mtu", "1400"]), 79, &words);
        expect(&host.run("apply", &["--network-mtu", "1400", "--allow-restart"]), 0, &[]);
        assert_eq!(host.asked(), restart);
        // One that was written, and not seen to be loaded, is loaded; no other way tells.
        let config = host.path("etc/cni/net.d/calico.conf");
        // A file's time lags by a tick of the kernel's clock.
        let now = SystemTime::now();
        while changed_at(&config).unwrap() < now {
            fs::rename(&config, host.path("moved")).unwrap();
            fs::rename(host.path("moved"), &config).unwrap();
        }
        expect(&host.run("check", &["--network-mtu", "1400"]), 79, &words);
        // Without the network nothing is to be loaded.
        expect(&host.undo(&["--complete"]), 0, &[]);
        assert_eq!((host.snapshot(), host.asked()), (before, Vec::new()), "{version}");
    }
}

#[test]
#[ignore = "mounts, which takes root"]
fn tasks_that_a_restart_ends_are_named_before_it() {
    let host = Plain::new(Start::Wrapper);
    let executors = json!([{ "id": "e", "tasks": [{ "id": "job-1" }] }]);
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
}

#[test]
#[ignore = "mounts, which takes root"]
fn an_undo_says_what_its_restart_ends_and_is_refused_where_that_is_all() {
    let host = Plain::new(Start::Wrapper);
    let before = host.snapshot();
    expect(&host.run("apply", ALLOWED), 0, &[]);
    host.asked();
    let executors = json!([{ "id": "e", "tasks": [{ "id": "job-1" }] }]);
    host.tell_of_frameworks(
        &json!([{ "id": "F1", "name": "chronos", "checkpoint": false, "executors": executors }]),
    );
    let words = "that ends tasks of frameworks that do not checkpoint: job-1 of framework chronos (F1)";
    let all = host.snapshot();
    expect(&host.undo(&["--complete"]), 79, &[words, "nothing was changed"]);
    // What its restart would end may have become another since it was installed.
    host.systemd.set_kill_mode("control-group");
    expect(&host.undo(ALLOWED), 78, &["KillMode is control-group"]);
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
fn a_file_of_variables_behind_a_link_is_taken_back_with_a_restart() {
    let host = Plain::new(Start::Defaults);
    fs::rename(host.path("etc/default/mesos-agent"), host.path("etc/mesos.env")).unwrap();
    symlink("../mesos.env", host.path("etc/default/mesos-agent")).unwrap();
    let before = host.snapshot();
    expect(&host.run("apply", ALLOWED), 0, &["write /etc/mesos.env"]);
    host.asked();
    expect(&host.run("apply", ALLOWED), 0, &["nothing to do"]);
    // Flags that are lost there are put back, as elsewhere.
    let is = fs::read_to_string(host.path("etc/mesos.env")).unwrap();
    fs::write(host.path("etc/mesos.env"), "# by hand\nMESOS_WORK_DIR=/var/lib/mesos").unwrap();
    expect(&host.run("apply", &[]), 0, &["write /etc/mesos.env"]);
    assert_eq!(fs::read_to_string(host.path("etc/mesos.env")).unwrap(), is);
    expect(&host.undo(&["--complete"]), 79, &["--allow-restart", "nothing was changed"]);
    expect(&host.undo(ALLOWED), 0, &["restart the Mesos agent"]);
    assert_eq!(host.asked(), ["restart mesos-agent.service"]);
    assert_eq!((host.flag("network_cni_config_dir"), host.snapshot()), (None, before));
}

#[test]
#[ignore = "mounts, which takes root"]
fn what_counts_more_than_the_flags_that_are_set_is_named() {
    for (start, place, content, words) in [
        (
            Start::Bare,
            "etc/systemd/system/mesos-agent.service.d/override.conf",
            "[Service]\nEnvironment=A=1 \"MESOS_NETWORK_CNI_CONFIG_DIR=/x y\"\n",
            "override.conf sets MESOS_NETWORK_CNI_CONFIG_DIR, and is read after",
        ),
        (
            Start::Defaults,
            "etc/more.env",
            "MESOS_NETWORK_CNI_PLUGINS_DIR=\n",
            "/etc/more.env sets MESOS_NETWORK_CNI_PLUGINS_DIR too",
        ),
    ] {
        let host = Plain::new(start);
        fs::create_dir_all(host.path(place).parent().unwrap()).unwrap();
        fs::write(host.path(place), content).unwrap();
        if start == Start::Defaults {
            for service in host.systemd.state.lock().unwrap().services.values_mut() {
                service.environment_files.push("/etc/more.env".to_owned());
            }
        }
        let before = host.snapshot();
        expect(&host.run("apply", ALLOWED), 78, &[words]);
        assert_eq!((host.snapshot(), host.asked()), (before, Vec::new()));
    }
}

#[test]
#[ignore = "mounts, which takes root"]
fn a_needed_restart_is_a_result_too() {
    let host = Plain::new(Start::Wrapper);
    for verb in ["check", "apply"] {
        let output = host.run(verb, &["--json"]);
        expect(&output, 79, &[]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&report["verdict"], &report["exit"]), (&json!("needs-restart"), &json!(79)), "{verb}");
    }
    let applied: Value =
        serde_json::from_slice(&host.run("apply", &["--json", "--allow-restart"]).stdout).unwrap();
    assert_eq!(applied["changed"], true);
}

#[test]
#[ignore = "mounts, which takes root"]
fn an_agent_whose_restart_would_end_everything_is_refused() {
    let host = Plain::new(Start::Wrapper);
    let before = host.snapshot();
    for service in host.systemd.state.lock().unwrap().services.values_mut() {
        service.kill_mode = "control-group".to_owned();
    }
    expect(&host.run("apply", ALLOWED), 78, &["KillMode is control-group", "KillMode=process"]);
    host.systemd.state.lock().unwrap().services.clear();
    expect(&host.run("apply", ALLOWED), 78, &["mesos-slave.service is not there", "--mesos-unit"]);
    expect(
        &host.run("apply", &["--allow-restart", "--mesos-unit", "x.service"]),
        78,
        &["x.service is not there"],
    );
    expect(
        &host.run("apply", &["--allow-restart", "--platform", "dcos"]),
        78,
        &["DC/OS", "/opt/mesosphere/active/cni"],
    );
    assert_eq!((host.snapshot(), host.asked()), (before, Vec::new()));
}

#[test]
#[ignore = "mounts, which takes root"]
fn an_agent_that_does_not_come_back_as_it_was_has_everything_taken_back() {
    for (wrong, words) in [
        (Wrong::Unregistered, "did not register again within 1 s of its restart (it is not registered)"),
        (Wrong::OtherId, "its ID is S2, and was S1"),
        (Wrong::Deaf, "does not know /"),
    ] {
        let host = Plain::new(Start::Wrapper);
        let before = host.snapshot();
        *host.wrong.lock().unwrap() = wrong;
        let failed = host.run("apply", ALLOWED);
        expect(&failed, 78, &[words, "all changes of this run were taken back"]);
        assert_eq!(host.snapshot(), before, "{wrong:?}");
        let restart = "restart mesos-slave.service".to_owned();
        assert_eq!(host.asked(), [restart.clone(), restart], "once with the flags, once without them");
        assert_eq!(host.flag("network_cni_config_dir"), None);
        // Mended, it is done.
        *host.wrong.lock().unwrap() = Wrong::Nothing;
        expect(&host.run("apply", ALLOWED), 0, &[]);
    }
}

#[test]
#[ignore = "mounts, which takes root"]
fn an_install_with_a_restart_killed_anywhere_is_finished_by_the_next_and_can_be_undone() {
    let host = Plain::new(Start::Wrapper);
    let before = host.snapshot();
    let undone = || {
        expect(&host.undo(ALLOWED), 0, &[]);
        assert_eq!(host.snapshot(), before);
    };
    let interest = |at: &kill::Point| at.changes_a_file_or_asks_for(&["RestartUnit"]);
    let command = || host.command("apply", ALLOWED);
    let mut in_the_middle = false;
    let killed = kill::at_points(&host.log(), undone, command, interest, |at| {
        let how = at.to_string();
        in_the_middle |= how.contains("RestartUnit");
        // A flag is never set before what it names is there.
        if host.path("etc/mesos-slave/network_cni_plugins_dir").exists() {
            assert!(host.path("etc/cni/net.d/calico.conf").exists(), "{how}");
        }
        let applied = host.run("apply", ALLOWED);
        assert!(applied.status.success(), "{how}: {}", text(&applied));
        assert_eq!(host.flag("network_cni_config_dir").as_deref(), Some("/etc/cni/net.d"), "{how}");
        expect(&host.run("check", &[]), 0, &[]);
        undone();
    });
    println!("killed at {killed} points");
    assert!(killed > 60 && in_the_middle, "so few points cannot be all: {killed}");
}

/// A network `calico` of DC/OS' own is there, or will be; under another name ours goes beside it.
#[test]
#[ignore = "mounts, which takes root"]
fn where_dcos_has_its_own_calico_another_name_must_be_given() {
    let flags = [("network_cni_plugins_dir", "/opt/cni/bin"), ("network_cni_config_dir", "/etc/cni/net.d")];
    let host = Plain::with(Start::Wrapper, "1.11.0", &flags);
    let enabled = host.path("opt/mesosphere/etc/calico/calico_enabled");
    fs::create_dir_all(enabled.parent().unwrap()).unwrap();
    fs::write(enabled, "").unwrap();
    let before = host.snapshot();
    for verb in ["check", "apply"] {
        let words = ["DC/OS' own Calico is on here", "calico_enabled", "give another --network-name"];
        expect(&host.run(verb, &[]), 78, &words);
    }
    assert_eq!(host.snapshot(), before);

    let calico = host.command("apply", &[]);
    let mut blue = Command::new(calico.get_program());
    blue.args(calico.get_args().map(|word| if word == "calico" { "blue".as_ref() } else { word }))
        .env_clear();
    blue.envs(calico.get_envs().filter_map(|(name, value)| Some((name, value?))));
    expect(&blue.output().unwrap(), 0, &["installed and verified"]);
    assert!(
        host.path("etc/cni/net.d/blue.conf").exists() && !host.path("etc/cni/net.d/calico.conf").exists()
    );
}

/// Two Felixes on a host would program the same rules and routes, whatever their networks are called.
#[test]
#[ignore = "mounts, which takes root"]
fn calico_node_does_not_run_beside_dcos_own_which_is_told_before() {
    let flags = [("network_cni_plugins_dir", "/opt/cni/bin"), ("network_cni_config_dir", "/etc/cni/net.d")];
    let host = Plain::with(Start::Wrapper, "1.11.0", &flags);
    let preflight = |name: &str| {
        let said = text(&host.installer(&["preflight", "--network-name", name]).output().unwrap());
        said.lines().find(|line| line.contains(" dcos-calico: ")).unwrap_or_default().to_owned()
    };
    // It ends before it changes anything also where it may run: this file is looked for next.
    let node = || {
        let etcd = ["--etcd-endpoints", "https://10.0.0.1:2379", "--etcd-ca", "/nonexistent/ca"];
        let image = ["--node-image", "i", "--node-cpus", "1", "--node-mem", "64", "--node-ip", "127.0.0.1"];
        host.installer(&[&["node", "run", "--node-name", "host-1"][..], &image, &etcd].concat())
            .output()
            .unwrap()
    };
    let felix = |runs: bool| {
        let service = support::systemd::Service {
            exec: vec!["/opt/mesosphere/bin/start-calico-felix.sh".to_owned()],
            pid: if runs { 4712 } else { 0 },
            loaded: true,
            ..Default::default()
        };
        host.systemd.state.lock().unwrap().services.insert("dcos-calico-felix.service".to_owned(), service);
    };
    felix(true);
    assert_eq!(preflight("calico"), "", "DC/OS does not say that it is on");
    expect(&node(), 78, &["/nonexistent/ca"]);

    let enabled = host.path("opt/mesosphere/etc/calico/calico_enabled");
    fs::create_dir_all(enabled.parent().unwrap()).unwrap();
    fs::write(enabled, "").unwrap();
    for name in ["calico", "blue"] {
        let found = preflight(name);
        assert!(found.starts_with("FAULT") && found.contains("dcos-calico-felix.service"), "{found}");
    }
    expect(&node(), 78, &["dcos-calico-felix.service", "turn DC/OS' own off", "node.enable"]);

    felix(false);
    let found = preflight("calico");
    assert!(found.starts_with("FAULT") && found.contains("give another --network-name"), "{found}");
    assert!(preflight("blue").starts_with("warning"), "{}", preflight("blue"));
    expect(&node(), 78, &["/nonexistent/ca"]);
}

/// Plain Mesos beside an /opt/mesosphere, and directories that were asked for.
#[test]
#[ignore = "mounts, which takes root"]
fn preflight_takes_the_options_that_say_how_the_agent_is_set_up() {
    let host = Plain::new(Start::Wrapper);
    fs::create_dir_all(host.path("opt/mesosphere")).unwrap();
    let found = |host: &Plain, more: &[&str]| {
        let said = text(&host.installer(&[&["preflight"][..], more].concat()).output().unwrap());
        let findings = said.lines().filter(|line| !line.starts_with("error: "));
        let mut of_agent = findings.filter(|line| line.contains(" mesos-agent: "));
        of_agent.next_back().unwrap_or(&said).to_owned()
    };
    let as_dcos = found(&host, &[]);
    assert!(as_dcos.starts_with("FAULT") && as_dcos.contains("say --mesos-platform mesos"), "{as_dcos}");
    let as_plain = found(&host, &["--mesos-platform", "mesos"]);
    assert!(
        as_plain.starts_with("warning") && as_plain.contains("takes them only when it starts"),
        "{as_plain}"
    );

    let flags = [("network_cni_plugins_dir", "/opt/cni/bin"), ("network_cni_config_dir", "/etc/cni/net.d")];
    let host = Plain::with(Start::Wrapper, "1.11.0", &flags);
    for (option, words) in [
        ("--cni-plugins-dir", "/elsewhere is not searched by the agent"),
        ("--cni-config-dir", "/elsewhere is not read by the agent"),
    ] {
        let found = found(&host, &[option, "/elsewhere"]);
        assert!(found.starts_with("FAULT") && found.contains(words), "{found}");
    }
    let asked = ["--cni-plugins-dir", "/opt/cni/bin", "--cni-config-dir", "/etc/cni/net.d"];
    assert!(found(&host, &asked).starts_with("ok "), "{}", found(&host, &asked));
}
