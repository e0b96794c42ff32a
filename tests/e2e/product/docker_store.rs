//! Docker's cluster store, configured on a host by the installer alone: what Docker and its containers see of it.

use std::path::PathBuf;
use std::time::Duration;

use cluster::probe::{Probe, ProbeTask};
use cluster::{Cluster, Host, Lock, Progress, Spec, get_json, programs, test_lock};
use serde_json::Value;

use crate::{stores, wait};

/// Where the installer is on the host.
pub(crate) const INSTALLER: &str = "/usr/local/bin/calico-installer";
pub(crate) const DAEMON_JSON: &str = "/etc/docker/daemon.json";
/// As an administrator may have written it.
const THEIRS: &str =
    "{\n\t\"debug\" : false,\n\n\t\"max-concurrent-downloads\" : 3, \"labels\" : [ \"a=b\" ]}";
/// An image of one program and what it needs.
pub(crate) const IMAGE: &str = "tar -h -C / -c usr/bin/sleep lib64/ld-linux-x86-64.so.2 lib/x86_64-linux-gnu/libc.so.6 | \
                     docker import - sleeper";
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// A cluster of one host, with the installer on it.
pub(crate) struct Bench {
    _lock: Lock,
    pub(crate) cluster: Cluster,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Bench {
    pub(crate) fn up(name: &str) -> Self {
        let lock = test_lock().unwrap();
        let spec = Spec { name: name.to_owned(), agents: 1, ..Spec::default() };
        let cluster = Cluster::up(&spec, &Progress::stderr()).unwrap();
        let bench = Self { _lock: lock, cluster };
        let to = bench.host().root().join(INSTALLER.trim_start_matches('/'));
        std::fs::copy(programs::find("calico-installer").unwrap(), to).unwrap();
        bench
    }

    pub(crate) fn host(&self) -> Host<'_> {
        self.cluster.hosts().unwrap().remove(0)
    }

    pub(crate) fn exec(&self, words: &[&str]) -> Ran {
        let output = self.host().exec(words).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Runs a script that must succeed; returns what it writes.
    pub(crate) fn sh(&self, script: &str) -> String {
        let ran = self.exec(&["sh", "-ec", script]);
        assert_eq!(ran.code, 0, "{script}: {ran:?}");
        ran.stdout.trim().to_owned()
    }

    /// The command line of `docker-cluster-store DOING`, with etcd reached directly.
    pub(crate) fn words(&self, doing: &str, more: &[&str]) -> Vec<String> {
        let etcd = self.cluster.etcd_endpoint();
        let mut words = vec![INSTALLER, "docker-cluster-store", doing];
        if doing != "undo" {
            words.extend(["--etcd-endpoints", &etcd, "--etcd-proxy", "direct"]);
            if !more.contains(&"--docker-settle") {
                words.extend(["--docker-settle", "2"]);
            }
        }
        words.extend(more);
        words.into_iter().map(ToOwned::to_owned).collect()
    }

    pub(crate) fn installer(&self, doing: &str, more: &[&str]) -> Ran {
        let words = self.words(doing, more);
        self.exec(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    pub(crate) fn must(&self, doing: &str, more: &[&str]) -> Ran {
        let ran = self.installer(doing, more);
        assert_eq!(ran.code, 0, "{doing} {more:?}: {ran:?}");
        ran
    }

    /// The same on a host without a bus: through `systemctl`.
    pub(crate) fn must_without_bus(&self, doing: &str, more: &[&str]) -> Ran {
        let words = self.words(doing, more);
        let env = ["env", "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/none"];
        let ran = self.exec(&env.into_iter().chain(words.iter().map(String::as_str)).collect::<Vec<_>>());
        assert_eq!(ran.code, 0, "{doing} {more:?}: {ran:?}");
        ran
    }

    /// Another store: the same etcd with a prefix.
    pub(crate) fn store(&self, prefix: &str) -> String {
        format!("{}/{prefix}", self.cluster.etcd_endpoint().replace("http://", "etcd://"))
    }

    /// A running container of this name, of which dockerd need not wait for the end; returns its ID and when it was started.
    pub(crate) fn run(&self, name: &str, options: &str) -> String {
        self.sh(&format!("docker run -d --stop-signal=KILL --name {name} {options} sleeper sleep 100000"));
        self.started(name)
    }

    pub(crate) fn started(&self, name: &str) -> String {
        self.sh(&format!(
            "docker inspect -f '{{{{.Id}}}} {{{{.State.Running}}}} {{{{.State.StartedAt}}}}' {name}"
        ))
    }

    /// dockerd's process and when it was started.
    pub(crate) fn dockerd(&self) -> String {
        self.sh("systemctl show -p MainPID,ExecMainStartTimestampMonotonic,NRestarts docker")
    }

    /// What is at daemon.json: content, mode, owner, and when it was written.
    pub(crate) fn file(&self) -> String {
        self.sh(&format!(
            "stat -c '%a %u %g %y %i' {DAEMON_JSON} 2>&1 || true; cat {DAEMON_JSON} 2>&1 || true"
        ))
    }

    /// A key of etcd's v2 API.
    pub(crate) fn key(&self, key: &str) -> Option<Value> {
        get_json(&format!("{}/v2/keys/{key}", self.cluster.etcd_endpoint())).ok()
    }

    pub(crate) fn node_key(&self, prefix: &str) -> String {
        format!("{prefix}docker/nodes/{}:2376", self.host().address())
    }

    /// What dockerd says is its store.
    pub(crate) fn store_in_memory(&self) -> String {
        let info = self.sh("curl -s --unix-socket /run/docker.sock http://docker/info");
        let info: Value = serde_json::from_str(&info).unwrap();
        info["ClusterStore"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn global_networks(&self) -> String {
        self.sh("docker network ls -q -f scope=global")
    }

    /// Records what is said on the bus.
    pub(crate) fn monitor(&self) {
        self.sh("systemd-run -q --unit=bus-monitor sh -c 'exec busctl monitor org.freedesktop.systemd1 >/run/bus 2>&1'");
        wait("the bus's monitor", LIMIT, || (!self.sh("cat /run/bus || true").is_empty()).then_some(()));
    }

    /// How often systemd was asked for this since [`Self::monitor`].
    pub(crate) fn asked(&self, method: &str) -> usize {
        self.sh("cat /run/bus").matches(&format!("Member={method}\n")).count()
    }
}

#[test]
fn a_first_store_takes_one_signal_and_hurts_nobody_and_comes_out_byte_for_byte() {
    let bench = Bench::up("e2e-store");
    bench.sh(IMAGE);
    bench.sh(&format!("umask 077; cat >{DAEMON_JSON} <<'END'\n{THEIRS}\nEND"));
    // Without the newline at its end, and with an owner of its own.
    bench.sh(&format!("truncate -s -1 {DAEMON_JSON}; chmod 640 {DAEMON_JSON}; chown 1:2 {DAEMON_JSON}"));
    let before = bench.sh(&format!("stat -c '%a %u %g' {DAEMON_JSON}; sha256sum <{DAEMON_JSON}"));
    let (dockerd, container) = (bench.dockerd(), bench.run("plain", ""));
    bench.monitor();

    // Looking changes nothing.
    let untouched = bench.file();
    let ran = bench.installer("check", &["--json"]);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, report["verdict"].as_str()), (1, Some("changes")), "{ran:?}");
    assert_eq!(bench.file(), untouched);
    assert_eq!((bench.asked("KillUnit"), bench.sh("ls -d /var/lib/calico-dcos || true").as_str()), (0, ""));

    let short = ["--docker-cluster-store-opts", "discovery.heartbeat=1,discovery.ttl=3"];
    // One that dies when Docker was told already is gone on with, and tells it nothing more.
    let words = bench.words("apply", &[&short[..], &["--docker-settle", "100"]].concat()).join(" ");
    bench.sh(&format!("systemd-run -q --unit=installer {words}"));
    wait("the store in Docker's memory", LIMIT, || (!bench.store_in_memory().is_empty()).then_some(()));
    bench.sh("kill -KILL $(systemctl show -p MainPID --value installer)");
    let ran = bench.must("apply", &short);
    assert!(ran.stdout.contains("finish"), "{ran:?}");
    let node = bench.key(&bench.node_key("")).unwrap();
    assert!((1..=3).contains(&node["node"]["ttl"].as_i64().unwrap()), "{node}");
    assert_eq!(bench.dockerd(), dockerd);
    assert_eq!(bench.started("plain"), container);
    assert_eq!((bench.asked("KillUnit"), bench.asked("RestartUnit")), (1, 0));
    assert_eq!(bench.global_networks(), "", "the probe network is gone");
    let written = bench.file();
    assert!(written.contains(&THEIRS[..THEIRS.len() - 1]) && written.starts_with("640 1 2 "), "{written}");
    // A network of the whole cluster can be had, and is in the store.
    let network = bench.sh("docker network create -d overlay theirs");
    assert!(bench.key(&format!("docker/network/v1.0/network/{network}")).is_some());

    // Again: it is looked at, and left alone.
    let looked = bench.asked("LoadUnit");
    let ran = bench.must("apply", &[&short[..], &["--allow-restart"]].concat());
    assert!(ran.stdout.contains("nothing to do"), "{ran:?}");
    assert_eq!((bench.file(), bench.dockerd()), (written, dockerd.clone()));
    assert!(bench.asked("LoadUnit") > looked, "the monitor sees what is asked");
    assert_eq!((bench.asked("KillUnit"), bench.asked("RestartUnit")), (1, 0));

    // Another heartbeat takes a signal; what an installer that died left in Docker goes.
    let probe = format!("calico-dcos-probe-{}-2376", bench.host().address().to_string().replace('.', "-"));
    bench.sh(&format!("docker network create -d overlay {probe}"));
    bench.must("apply", &["--docker-cluster-store-opts", "discovery.heartbeat=3,discovery.ttl=9"]);
    let node = bench.key(&bench.node_key("")).unwrap();
    assert!((4..=9).contains(&node["node"]["ttl"].as_i64().unwrap()), "{node}");
    bench.must("apply", &short);
    assert_eq!((bench.asked("KillUnit"), bench.asked("RestartUnit")), (3, 0));
    assert_eq!(bench.global_networks(), network[..12]);

    // Undo gives back every byte, and says what Docker still remembers.
    bench.sh("docker network rm theirs");
    let ran = bench.must("undo", &[]);
    assert!(ran.stdout.contains("next restart"), "{ran:?}");
    assert_eq!(bench.sh(&format!("stat -c '%a %u %g' {DAEMON_JSON}; sha256sum <{DAEMON_JSON}")), before);
    assert_eq!((bench.dockerd(), bench.started("plain")), (dockerd, container));
    assert_eq!(bench.asked("KillUnit"), 3);
    assert_eq!(bench.sh("ls -d /var/lib/calico-dcos || true"), "");

    // One that was reloaded after that hangs when it is told of the store once more: so it is not told.
    bench.sh("systemctl reload docker");
    let ran = bench.installer(
        "apply",
        &[
            "--docker-max-agents",
            "1000",
            "--docker-cluster-store-opts",
            "discovery.heartbeat=1,discovery.ttl=4",
        ],
    );
    assert_eq!(ran.code, 79, "{ran:?}");
    assert!(ran.stderr.contains("does not announce itself"), "{ran:?}");
    bench.sh("docker ps");
    bench.must("apply", &[&short[..], &["--allow-restart"]].concat());
    assert!(bench.key(&bench.node_key("")).is_some());
}

#[test]
fn what_is_in_the_way_is_named_and_nothing_is_changed_and_without_it_a_mesos_task_configures_docker() {
    let bench = Bench::up("e2e-store-no");
    a_mesos_task_configures_docker(&bench);
    bench.sh("systemctl restart docker");
    a_container_is_lost(&bench);
    bench.sh("systemctl restart docker");
    let dockerd = bench.dockerd();
    let store = bench.store("alt");
    let drop_in = |line: &str| {
        format!(
            "mkdir -p /etc/systemd/system/docker.service.d && \
             printf '[Service]\\n{line}\\n' >/etc/systemd/system/docker.service.d/zz.conf && systemctl daemon-reload"
        )
    };
    let exec = |flags: &str| drop_in(&format!("ExecStart=\\nExecStart=/usr/sbin/dockerd -H fd:// {flags}"));
    let file = |content: &str| format!("printf '{content}' >{DAEMON_JSON}");
    let none: &[&str] = &[];
    let nowhere = format!("etcd://{}:1", bench.cluster.services_address());
    for (prepare, more, code, words) in [
        (exec("--cluster-store=zk://a:1"), none, 78, &["zz.conf", "--cluster-store"][..]),
        (exec("--cluster-advertise eth0:1"), none, 78, &["zz.conf", "--cluster-advertise"]),
        (
            exec("$MORE") + " && echo \"MORE=\\\"--debug --cluster-store-opt a=b\\\"\" >/etc/default/docker",
            none,
            78,
            &["/etc/default/docker (MORE", "--cluster-store-opt"],
        ),
        (exec("--config-file=/etc/other.json"), none, 78, &["/etc/other.json", "--docker-daemon-json"]),
        (file("{\\n  \"debug\": true,\\n}"), none, 78, &[DAEMON_JSON, "line 3 column 1"]),
        (file("[]"), none, 78, &["an array, not an object", "line 1, column 1"]),
        (file("{\"debug\":true,\"debug\":false}"), none, 78, &["\"debug\"", "second time"]),
        (
            file("{\"cluster-store\":\"zk://theirs:1\"}"),
            none,
            78,
            &["zk://theirs:1", "--docker-replace-store"],
        ),
        ("docker swarm init --advertise-addr 127.0.0.1".to_owned(), none, 78, &["swarm (active)"]),
        ("true".to_owned(), &["--docker-cluster-store", &nowhere], 69, &["not reached"]),
        (
            "true".to_owned(),
            &["--docker-unit", "none.service", "--docker-socket", "/none"],
            80,
            &["no Docker here", "none.service"],
        ),
        ("true".to_owned(), &["--docker-unit", "none.service"], 78, &["--docker-unit"]),
        ("true".to_owned(), &["--docker-cluster-store", "zk://10.0.0.1:2181"], 78, &["ZooKeeper", "an etcd"]),
        (
            "true".to_owned(),
            &[
                "--docker-cluster-store-opts",
                "kv.cacertfile=/a,kv.certfile=/b,kv.keyfile=/c",
                "--docker-cluster-store",
                &store,
            ],
            78,
            &["kv.cacertfile names /a"],
        ),
    ] {
        bench.sh(&prepare);
        let before = bench.file();
        for doing in ["check", "apply"] {
            let ran = bench.installer(doing, &[more, &["--allow-restart"]].concat());
            assert_eq!(ran.code, code, "{prepare}: {ran:?}");
            let error = ran.stderr.lines().last().unwrap_or_default();
            assert!(
                error.starts_with("error: ") && words.iter().all(|it| error.contains(it)),
                "{prepare}: {ran:?}"
            );
        }
        assert_eq!((bench.file(), bench.dockerd()), (before, dockerd.clone()), "{prepare}");
        bench.sh(&format!(
            "docker swarm leave --force 2>/dev/null || true; rm -f {DAEMON_JSON} /etc/default/docker \
             /etc/systemd/system/docker.service.d/zz.conf; systemctl daemon-reload"
        ));
    }
    assert_eq!(bench.sh("ls -d /var/lib/calico-dcos || true"), "");
    broken_disks(&bench);

    // A store on the command line is seen, though daemon.json has none.
    bench.sh(&exec("--cluster-store=zk://a:1"));
    let status = bench.sh(&format!("{INSTALLER} status"));
    let store = "docker-cluster-store: installed";
    assert!(
        status.contains(store) && status.contains("zz.conf (unit docker.service) names the store zk://a:1"),
        "{status}"
    );
    bench.sh("rm /etc/systemd/system/docker.service.d/zz.conf; systemctl daemon-reload");

    runs_in_an_empty_container(&bench);
    // One that does not run is not started by being looked at.
    bench.sh("systemctl stop docker");
    let ran = bench.installer("apply", &[]);
    assert_eq!(ran.code, 69, "{ran:?}");
    assert_eq!(bench.sh("systemctl is-active docker || true"), "inactive");
}

/// The program is all that is in its image.
fn runs_in_an_empty_container(bench: &Bench) {
    bench.sh(&format!(
        "mkdir /run/empty && cd /run/empty && cp {INSTALLER} . && \
         printf 'FROM scratch\nCOPY calico-installer /\nENTRYPOINT [\"/calico-installer\"]\n' >Dockerfile && \
         docker build -q -t empty . && rm -r /run/empty"
    ));
    let etcd = bench.cluster.etcd_endpoint();
    let check =
        |etcd| format!("--net=host empty etcd-proxy check --etcd-proxy direct --etcd-endpoints {etcd}");
    for (words, code, said) in [
        ("empty --version".to_owned(), 0, "calico-installer "),
        (
            "--net=none empty preflight --node-ip 127.0.0.1".to_owned(),
            78,
            "/var/run/docker.sock: there is no such socket",
        ),
        (check("http://127.0.0.1:1"), 1, "error: etcd is not read"),
        (check("http://no-such-host.invalid:2379"), 1, "no-such-host.invalid"),
        // A check that has something to read works.
        (check(&etcd), 0, "etcd is read"),
    ] {
        let ran = bench.exec(&["sh", "-c", &format!("docker run --rm {words} 2>&1")]);
        assert!(ran.code == code && ran.stdout.contains(said), "{words}: {ran:?}");
    }
    bench.sh("docker image rm empty");
}

/// A container that ends as Docker is told: whatever ended it, all is taken back.
fn a_container_is_lost(bench: &Bench) {
    bench.sh(IMAGE);
    bench.run("lost", "");
    let dockerd = bench.dockerd();
    let ran = std::thread::scope(|scope| {
        let apply = scope.spawn(|| bench.installer("apply", &["--docker-settle", "4"]));
        wait("the store in Docker's memory", LIMIT, || (!bench.store_in_memory().is_empty()).then_some(()));
        bench.sh("docker kill lost");
        apply.join().unwrap()
    });
    let error = ran.stderr.lines().last().unwrap_or_default();
    assert!(
        ran.code == 75 && error.contains("do not run any more: lost") && error.contains("taken back"),
        "{ran:?}"
    );
    assert_eq!(bench.sh(&format!("ls {DAEMON_JSON} /var/lib/calico-dcos 2>/dev/null || true")), "");
    assert_eq!(bench.dockerd(), dockerd);
}

/// A disk that is full, and one that cannot be written: all is as before, and the message says why.
fn broken_disks(bench: &Bench) {
    bench.sh(&format!("printf '%s' '{THEIRS}' >{DAEMON_JSON}"));
    let dockerd = bench.dockerd();
    let full = "cp -a /etc/docker /run/docker-etc && mount -t tmpfs -o size=16k tmpfs /etc/docker && \
                cp -a /run/docker-etc/. /etc/docker && ! dd if=/dev/zero of=/etc/docker/fill bs=4k 2>/dev/null";
    let read_only = "mount --bind /etc/docker /etc/docker && mount -o remount,ro,bind /etc/docker";
    for (mount, code, words) in [
        (full, 75, &["No space left on device", "taken back"][..]),
        (read_only, 77, &["cannot be written", "read-only", DAEMON_JSON]),
    ] {
        bench.sh(mount);
        let before = bench.file();
        let ran = bench.installer("apply", &[]);
        assert_eq!(ran.code, code, "{ran:?}");
        let error = ran.stderr.lines().last().unwrap_or_default();
        assert!(words.iter().all(|it| error.contains(it)), "{ran:?}");
        assert_eq!((bench.file(), bench.dockerd()), (before, dockerd.clone()));
        bench.sh("umount /etc/docker");
    }
    bench.sh(&format!("rm {DAEMON_JSON}"));
    assert_eq!(
        (bench.store_in_memory(), bench.sh("ls -d /var/lib/calico-dcos || true")),
        (String::new(), String::new())
    );
}

#[test]
fn a_changed_store_takes_a_restart_that_must_be_allowed_and_is_taken_back_when_docker_does_not_bear_it() {
    let bench = Bench::up("e2e-store-new");
    bench.sh(IMAGE);
    bench.must_without_bus("apply", &[]);
    let ttl = bench.key(&bench.node_key("")).unwrap()["node"]["ttl"].as_i64().unwrap();
    assert!((40..=60).contains(&ttl), "of 500 agents: {ttl} s");
    let (first, second, third) = (bench.store_in_memory(), bench.store("second"), bench.store("third"));
    let (file, dockerd) = (bench.file(), bench.dockerd());
    let plain = bench.run("plain", "");
    bench.run("kept", "--restart=always");

    let to_second = ["--docker-cluster-store", &second];
    for doing in ["check", "apply"] {
        let ran = bench.installer(doing, &to_second);
        assert_eq!(ran.code, 79, "{ran:?}");
        assert!(ran.stderr.contains(&first), "{ran:?}");
    }
    assert_eq!((bench.file(), bench.dockerd(), bench.started("plain")), (file, dockerd, plain));

    let ran = bench.must("apply", &[&to_second[..], &["--allow-restart"]].concat());
    assert!(ran.stdout.contains("containers that Docker does not start again: plain"), "{ran:?}");
    assert_eq!(bench.store_in_memory(), second);
    assert!(bench.key(&bench.node_key("second/")).is_some());
    let kept = bench.started("kept");
    assert!(kept.contains(" true "), "{kept}");

    // A Docker that does not start with another store; and one that starts, and does not read it.
    let copy = "/etc/docker/copy.json";
    let not_third = "ExecStartPre=/bin/sh -c \"! grep -q third /etc/docker/daemon.json\"".to_owned();
    let unread = format!("BindReadOnlyPaths={copy}:{DAEMON_JSON}");
    bench.sh(&format!("cp {DAEMON_JSON} {copy}"));
    for (line, words) in [(not_third, "did not come back"), (unread, "does not announce itself")] {
        let drop_in = "/etc/systemd/system/docker.service.d/zz.conf";
        bench.sh(&format!("cat >{drop_in} <<'END'\n[Service]\n{line}\nEND\nsystemctl daemon-reload"));
        let (file, dockerd) = (bench.file(), bench.dockerd());
        let ran = bench.installer("apply", &["--docker-cluster-store", &third, "--allow-restart"]);
        assert_eq!(ran.code, 78, "{ran:?}");
        let error = ran.stderr.lines().last().unwrap();
        assert!(
            error.contains(words) && error.contains("all changes of this run were taken back"),
            "{ran:?}"
        );
        let content = |text: &str| text.split_once('\n').unwrap().1.to_owned();
        assert_eq!(content(&bench.file()), content(&file));
        assert_ne!(bench.dockerd(), dockerd);
        assert_eq!(bench.store_in_memory(), second, "it is back, with the store that it had");
        assert!(bench.started("kept").contains(" true "));
        bench.sh(&format!("rm {drop_in}; systemctl daemon-reload"));
    }

    // Undone with a restart, nothing of it is left.
    let ran = bench.must_without_bus("undo", &["--allow-restart"]);
    assert!(ran.stdout.contains("restart Docker"), "{ran:?}");
    assert_eq!(bench.store_in_memory(), "");
    assert!(bench.started("kept").contains(" true "));
    assert_eq!(bench.sh(&format!("ls {DAEMON_JSON} /var/lib/calico-dcos 2>/dev/null || true")), "");

    stores::through_a_proxy_to_an_etcd_with_tls(&bench);
}

/// It sees no process of the host.
fn a_mesos_task_configures_docker(bench: &Bench) {
    let (dockerd, host) = (bench.dockerd(), bench.host());
    let probe = Probe::connect(&bench.cluster.master_urls()[0]).unwrap();
    let blind = "! cat /proc/[0-9]*/comm | grep -x dockerd";
    for (doing, verdict) in
        [("apply", "installed and verified"), ("apply", "nothing to do"), ("undo", "taken back")]
    {
        let command = format!("{blind} && {} 2>&1", bench.words(doing, &[]).join(" "));
        let hostname = host.address().to_string();
        let task = probe.launch(ProbeTask { hostname, command, ..ProbeTask::default() });
        let finished = task.wait_finished(LIMIT).unwrap();
        let said = task.stdout().unwrap();
        assert!(finished.message.contains("status 0") && said.contains(verdict), "{finished:?}: {said}");
        assert_eq!(bench.dockerd(), dockerd);
        let there: PathBuf = host.root().join(DAEMON_JSON.trim_start_matches('/'));
        assert_eq!(there.exists(), doing == "apply");
    }
}
