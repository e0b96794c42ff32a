//! Where `net-modules` is refused, it says what is wrong and what would be right, and changes nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

mod support;
use support::expect;
use support::old::{DCOS_COMMON, DCOS_MODULES, DCOS_PACKAGE, Kind, MODULES, Old};

const ALLOWED: &[&str] = &["--allow-restart"];

#[test]
#[ignore = "mounts, which takes root"]
fn what_is_in_the_way_is_named_and_nothing_is_changed() {
    let common = format!("{DCOS_PACKAGE}/mesos-slave-common");
    let modules = format!("{DCOS_PACKAGE}/mesos-slave-modules.json");
    let rival = DCOS_MODULES.replace("com_mesosphere_StatsEnvHook", MODULES[1]);
    let cut = DCOS_COMMON.replace("MESOS_HOOKS=com_mesosphere_StatsEnvHook\n", "MESOS_ATTRIBUTES=\"a");
    for (kind, place, content, words) in [
        (
            Kind::DcOs,
            &*modules,
            "{\n  \"libraries\": [,]\n}",
            "mesos-slave-modules.json cannot be changed: it is not valid",
        ),
        (Kind::DcOs, &*modules, "{\n  \"libraries\": [,]\n}", "line 2 column 17"),
        (Kind::DcOs, &*modules, "{\"libraries\": {}}", "must be an array of objects, at line 1, column 15"),
        (Kind::DcOs, &*modules, &*rival, "NetworkHook already, of /opt/mesosphere/lib/libstats-slave.so"),
        (Kind::DcOs, &*common, &*cut, "would be a part of its last line"),
        (
            Kind::DcOs,
            "var/lib/dcos/mesos-slave-common",
            "MESOS_ISOLATION=x\n",
            "mesos-slave-common sets MESOS_ISOLATION",
        ),
        (
            Kind::Packages,
            "etc/default/mesos-slave",
            "ISOLATION=posix/cpu\n",
            "mesos-slave sets ISOLATION too",
        ),
        (Kind::Packages, "etc/mesos-slave/modules", "{\"libraries\":[]}", "name that as file:///PATH"),
        (Kind::Defaults, "etc/default/mesos-slave", "A=1 \\", "would be a part of its last line"),
        (
            Kind::Bare,
            "etc/systemd/system/mesos-slave.service.d/override.conf",
            "[Service]\nEnvironment=MESOS_ISOLATION=posix/disk\n",
            "mesos-slave.service.d/override.conf sets MESOS_ISOLATION, and is read after",
        ),
    ] {
        let host = Old::new(kind);
        let path = host.path(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        let before = host.snapshot();
        expect(&host.run("apply", ALLOWED), 78, &[words]);
        expect(&host.run("check", &[]), 78, &[words]);
        assert_eq!((host.snapshot(), host.asked()), (before, Vec::new()), "{place}");
    }
    // A link in the library's place leads to what is another's.
    let host = Old::new(Kind::DcOs);
    symlink("libstats-slave.so", host.path("opt/mesosphere/lib/libmesos_network_isolator.so")).unwrap();
    expect(&host.run("apply", ALLOWED), 78, &["libmesos_network_isolator.so is not a regular file"]);
    // Modules that are set elsewhere than where they were looked for.
    let host = Old::new(Kind::Bare);
    let mut flags: Value = serde_json::from_str(&host.documents.lock().unwrap()["/flags"]).unwrap();
    flags["flags"]["modules"] = json!("{}");
    host.documents.lock().unwrap().insert("/flags", flags.to_string());
    expect(&host.run("apply", ALLOWED), 78, &["the agent has --modules, which is set somewhere else"]);
    for (flag, word) in [("--isolation=a", "--isolation"), ("--hooks", "--hooks")] {
        host.systemd.state.lock().unwrap().services.get_mut("mesos-slave.service").unwrap().exec =
            vec!["/usr/sbin/mesos-slave".to_owned(), flag.to_owned()];
        expect(
            &host.run("apply", ALLOWED),
            78,
            &[&format!("mesos-slave.service has {word} on its command line")],
        );
    }
}

#[test]
#[ignore = "mounts, which takes root"]
fn any_other_version_of_mesos_is_refused_with_what_to_do_instead() {
    for (version, words) in [
        ("0.27.2", "Mesos 0.27 runs here, and net-modules are for 0.28 alone: upgrade Mesos"),
        (
            "1.0.1",
            "Mesos 1.0 runs here, and net-modules are for 0.28 alone: this one has CNI: use `calico-installer cni`",
        ),
        ("1.11.0", "use `calico-installer cni`"),
    ] {
        for kind in [Kind::DcOs, Kind::Packages] {
            let host = Old::with(kind, version, |_| {});
            let before = host.snapshot();
            for verb in ["check", "apply"] {
                expect(&host.run(verb, ALLOWED), 78, &[words]);
            }
            assert_eq!((host.snapshot(), host.asked()), (before, Vec::new()));
        }
    }
    let host = Old::new(Kind::Packages);
    host.documents.lock().unwrap().clear();
    expect(&host.run("apply", ALLOWED), 78, &["the agent answers 404: is this a Mesos agent?"]);
}

#[test]
#[ignore = "mounts, which takes root"]
fn an_agent_that_cannot_be_restarted_is_refused() {
    let host = Old::new(Kind::Packages);
    let before = host.snapshot();
    for service in host.systemd.state.lock().unwrap().services.values_mut() {
        service.kill_mode = "control-group".to_owned();
    }
    expect(&host.run("apply", ALLOWED), 78, &["KillMode is control-group", "KillMode=process"]);
    expect(
        &host.run("apply", &["--allow-restart", "--mesos-unit", "x.service"]),
        78,
        &["x.service is not there"],
    );
    expect(
        &host.run("apply", &["--allow-restart", "--platform", "dcos"]),
        78,
        &["dcos-mesos-slave.service is not there"],
    );
    let forced = ["--allow-restart", "--platform", "dcos", "--mesos-unit", "mesos-slave.service"];
    expect(&host.run("apply", &forced), 78, &["mesos-slave-common is not there", "--mesos-platform mesos"]);
    host.systemd.state.lock().unwrap().services.clear();
    expect(&host.run("apply", ALLOWED), 78, &["mesos-slave.service is not there", "--mesos-unit"]);
    assert_eq!((host.snapshot(), host.asked()), (before, Vec::new()));
    // DC/OS' own unit may end its group: the agent puts tasks elsewhere.
    let host = Old::new(Kind::DcOs);
    expect(&host.run("apply", ALLOWED), 0, &[]);
}

#[test]
#[ignore = "mounts, which takes root"]
fn wrong_values_of_options_say_what_would_be_right() {
    let host = Old::new(Kind::Packages);
    let before = host.snapshot();
    for (option, value, words) in [
        ("--artifacts-net-modules", "/scratch/x", "PATH#sha256=HEX"),
        ("--artifacts-calico-mesos", "/scratch/x#sha256=12", "64 hexadecimal digits"),
        ("--mesos-platform", "k8s", "auto, dcos, mesos"),
        ("--mesos-patience", "0", "from 1 to 3600"),
        ("--mesos-agent", "10.0.0.11:5051", "http://HOST:PORT"),
        ("--etcd-endpoints", "10.0.0.1:2379", "http://HOST:PORT"),
        ("--etcd-proxy", "grpc-proxy", "net-modules needs the v2 API"),
        ("--etcd-ca", "/ca.pem", "http://10.0.0.1:2379 has none"),
    ] {
        // It has each of them once.
        let command = host.step("apply", "library", "program", &[]);
        let words_of = command.get_args().map(|word| word.to_str().unwrap().to_owned()).collect::<Vec<_>>();
        let at = words_of.iter().position(|word| word == option);
        let kept = words_of
            .iter()
            .enumerate()
            .skip(7)
            .filter(|(index, _)| at.is_none_or(|at| *index != at && *index != at + 1));
        let kept: Vec<&str> = kept.map(|(_, word)| word.as_str()).chain([option, value]).collect();
        expect(&host.installer(&kept).output().unwrap(), 78, &[option, words]);
    }
    let several = ["--etcd-proxy", "direct", "--etcd-endpoints", "http://10.0.0.1:2379,http://10.0.0.2:2379"];
    expect(&host.run("apply", &several), 78, &["one address, and --etcd-endpoints has 2"]);
    // What is in a file must be what was promised; a check does without it.
    let spoilt = |verb: &str| {
        let command = host.step(verb, "library", "program", ALLOWED);
        fs::write(host.scratch("calico_mesos"), "evil").unwrap();
        { command }.output().unwrap()
    };
    expect(&spoilt("apply"), 78, &["/scratch/calico_mesos has SHA-256", "nothing was changed"]);
    expect(&spoilt("check"), 78, &["SHA-256"]);
    let mut check = host.step("check", "library", "program", &[]);
    fs::remove_file(host.scratch("calico_mesos")).unwrap();
    expect(&check.output().unwrap(), 79, &["calico_mesos"]);
    assert_eq!((host.snapshot(), host.asked()), (before, Vec::new()));
}
