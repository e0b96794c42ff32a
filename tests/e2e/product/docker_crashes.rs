//! `docker-cluster-store` is killed wherever it changes something, on a host with a real dockerd and systemd; the next
//! run finishes, and undo restores.
//!
//! A Docker forgets its first store only when it is restarted, which takes most of a point's time: so a spread of
//! the points is taken, and all of them with `CRASH_POINTS=all`.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use tempfile::NamedTempFile;

use crate::docker_store::{Bench, DAEMON_JSON, IMAGE, INSTALLER, LIMIT};
use crate::kill::{self, Point};
use crate::wait;

/// As an administrator may have written it. Containers outlive their dockerd, so one of them is watched all the time.
const THEIRS: &str = "{\n\t\"live-restore\" : true,\n\n\t\"labels\" : [ \"a=b\" ] }";
/// Little is waited for.
const SHORT: [&str; 4] =
    ["--docker-cluster-store-opts", "discovery.heartbeat=1,discovery.ttl=3", "--docker-settle", "0"];
/// All that the installer may change, byte by byte.
const LOOK: &str = "cd /; find etc var/lib/calico-dcos -printf '%p %y %m %U %G %l\\n' 2>&1 | sort; \
                    find etc -type f -print0 | sort -z | xargs -0 sha256sum";
/// Of the changes that nobody sees, one in this many is taken.
const ONE_IN: usize = 48;

/// A host whose Docker has a configuration, a container, and no store.
struct Victim {
    bench: Bench,
    log: NamedTempFile,
    container: String,
    before: String,
}

impl Victim {
    fn up(name: &str) -> Self {
        let bench = Bench::up(name);
        bench.sh(IMAGE);
        bench.sh(&format!(
            "printf '%s' '{THEIRS}' >{DAEMON_JSON}; chmod 640 {DAEMON_JSON}; chown 1:2 {DAEMON_JSON}"
        ));
        forget(&bench);
        let (container, before) = (bench.run("plain", ""), bench.sh(LOOK));
        Self { bench, log: NamedTempFile::new().unwrap(), container, before }
    }

    /// The installer in the host's namespaces, without another process whose calls strace would count.
    fn command(&self, doing: &str, more: &[&str]) -> Command {
        let pid = self.bench.host().pid().unwrap().to_string();
        let mut command = Command::new("/usr/bin/nsenter");
        command.args(["-t", &pid, "-m", "-u", "-i", "-n", "--"]).args(self.bench.words(doing, more));
        command
    }

    /// The points of an undisturbed run.
    fn points(&self, command: &Command) -> Vec<Point> {
        let (output, points) = kill::points(command, self.log.path());
        assert!(output.status.success(), "{output:?}");
        points
    }

    /// Kills it at a point; says whether it came there, for a run is not always the same.
    fn kill(&self, command: &Command, point: &Point) -> bool {
        let status = kill::killed_at(command, point, self.log.path());
        let killed = kill::was_killed(status);
        assert!(killed || status.success(), "{point}: {status}");
        killed
    }

    /// Nobody sees half of a file, and the container has not noticed.
    fn assert_whole(&self, how: &str) {
        let content = self.bench.sh(&format!("cat {DAEMON_JSON}"));
        let json: serde_json::Value =
            serde_json::from_str(&content).unwrap_or_else(|error| panic!("{how}: {error}: {content}"));
        assert!(content == THEIRS || json.get("cluster-advertise").is_some(), "{how}: {content}");
        self.assert_container(how);
    }

    fn assert_container(&self, how: &str) {
        assert_eq!(self.bench.started("plain"), self.container, "{how}");
    }

    /// Undoes it, and everything is as it was, byte by byte.
    fn assert_taken_back(&self, more: &[&str], how: &str) {
        let ran = self.bench.installer("undo", more);
        assert_eq!(ran.code, 0, "{how}: {ran:?}");
        assert_eq!(self.bench.sh(LOOK), self.before, "{how}");
    }

    fn assert_applied(&self, more: &[&str], how: &str) {
        let ran = self.bench.installer("apply", more);
        assert_eq!(ran.code, 0, "{how}: {ran:?}");
    }
}

/// Makes Docker forget its store, when its configuration is without one.
fn forget(bench: &Bench) {
    bench.sh("systemctl reset-failed docker; systemctl restart docker");
}

/// Whether the call changes nothing for others: a question to Docker, etcd or systemd, or what is said to the operator.
fn only_asks_or_says(point: &Point) -> bool {
    ["\"GET ", "\\3\\0\\0\\0Get\\0", "LoadUnit", "Hello", "<pipe:"].iter().any(|it| point.shown.contains(it))
}

/// Whether others see the change: another daemon.json, or what Docker and systemd are told.
fn is_seen(point: &Point) -> bool {
    let renames = point.call.starts_with("rename") && point.shown.contains(&format!("\"{DAEMON_JSON}\""));
    renames || ["KillUnit", "RestartUnit", "\"POST ", "\"DELETE "].iter().any(|it| point.shown.contains(it))
}

/// All points; or, unless all are asked for, the first and the last, those before and after each change that others see,
/// and a part of the rest.
fn chosen(points: &[Point]) -> Vec<&Point> {
    if std::env::var("CRASH_POINTS").is_ok_and(|it| it == "all") {
        return points.iter().collect();
    }
    let mut taken = BTreeSet::from([0, points.len() - 1]);
    let mut rest = 0;
    for (index, point) in points.iter().enumerate().filter(|(_, point)| !only_asks_or_says(point)) {
        if is_seen(point) {
            taken.extend([index, index + 1]);
        } else {
            rest += 1;
            if rest % ONE_IN == 0 {
                taken.insert(index);
            }
        }
    }
    points.iter().enumerate().filter(|(index, _)| taken.contains(index)).map(|(_, point)| point).collect()
}

/// Does it at each of the chosen points; `at` says whether the program came there.
fn at_each(what: &str, points: &[Point], at: impl Fn(&Point) -> bool) {
    let chosen = chosen(points);
    let killed = chosen.iter().filter(|point| at(point)).count();
    println!("{what}: killed at {killed} of {} points, of which {} were chosen", points.len(), chosen.len());
    assert!(killed * 10 >= chosen.len() * 9, "{what}: killed at {killed} of {} only", chosen.len());
}

#[test]
fn an_installer_killed_anywhere_is_finished_by_the_next_run() {
    let victim = Victim::up("e2e-store-kill");
    a_first_store_or_its_undo(&victim);
    forget(&victim.bench);
    a_changed_store(&victim);
    a_supervisor(&victim);
}

/// A service's container: what a supervisor that was killed has left is made what it should be by the next.
fn a_supervisor(victim: &Victim) {
    let bench = &victim.bench;
    // It stays until it is told to end.
    let entrypoint = "[\"/usr/bin/dash\", \"-c\", \"trap exit TERM; /usr/bin/sleep 100000 & wait\"]";
    for tag in ["one", "two"] {
        let image = IMAGE.replace("usr/bin/sleep ", "usr/bin/sleep usr/bin/dash ");
        let import = format!("import -c 'ENTRYPOINT {entrypoint}' - node:{tag}");
        bench.sh(&image.replace("import - sleeper", &import));
    }
    let pid = bench.host().pid().unwrap().to_string();
    let (etcd, ip) = (bench.cluster.etcd_endpoint(), bench.host().address().to_string());
    let node = |tag: &str| {
        let mut command = Command::new("/usr/bin/nsenter");
        command.args([
            "-t",
            &pid,
            "-m",
            "-u",
            "-i",
            "-n",
            "--",
            INSTALLER,
            "node",
            "run",
            "--etcd-endpoints",
            &etcd,
        ]);
        command.args(["--etcd-proxy", "direct", "--node-ip", &ip, "--network-encapsulation", "none"]);
        command.args(["--node-cpus", "0.1", "--node-mem", "64", "--node-image", &format!("node:{tag}")]);
        command
    };
    let inspect = ["docker", "inspect", "-f", "{{.State.Running}} {{.Config.Image}}", "calico-node"];
    let runs = |tag: &str| bench.exec(&inspect).stdout.trim() == format!("true node:{tag}");
    let start = |tag: &str| {
        let child = node(tag).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait("the container", LIMIT, || runs(tag).then_some(()));
        child
    };
    for (before, tag) in [(None, "one"), (Some("one"), "two")] {
        let prepare = || {
            bench.sh("docker rm -f calico-node 2>&1 || true");
            if let Some(before) = before {
                let mut child = start(before);
                child.kill().unwrap();
                child.wait().unwrap();
            }
        };
        prepare();
        let points = kill::points_until(&node(tag), victim.log.path(), || runs(tag));
        // When Docker was told to do something, and has not answered.
        let told = points
            .windows(2)
            .filter(|pair| ["\"POST ", "\"DELETE "].iter().any(|it| pair[0].shown.contains(it)));
        let told: Vec<&Point> = told.map(|pair| &pair[1]).collect();
        assert!(told.len() >= if before.is_some() { 4 } else { 2 }, "{points:#?}");
        let all = std::env::var("CRASH_POINTS").is_ok_and(|it| it == "all");
        let chosen: Vec<_> = told.iter().step_by(if all { 1 } else { 2 }).collect();
        let mut killed = 0;
        for point in &chosen {
            prepare();
            killed += usize::from(kill::killed_at_or(&node(tag), point, victim.log.path(), || runs(tag)));
            let mut child = start(tag);
            let ours = bench.sh("docker ps -aq --filter label=calico-dcos.task=calico-node");
            assert_eq!(ours.lines().count(), 1, "{point}: {ours}");
            let told = Command::new("kill").arg(child.id().to_string()).status().unwrap();
            assert!(told.success());
            assert_eq!(child.wait().unwrap().code(), Some(143), "{point}");
            assert_eq!(bench.sh("docker ps -aq --filter label=calico-dcos.task=calico-node"), "", "{point}");
        }
        println!("supervisor: killed at {killed} of {} points", chosen.len());
        assert!(killed > 0, "{chosen:#?}");
    }
    bench.sh(&format!("{INSTALLER} node undo"));
    victim.assert_container("after all supervisors");
    assert_eq!(bench.sh(LOOK), victim.before);
}

fn a_first_store_or_its_undo(victim: &Victim) {
    let bench = &victim.bench;
    let points = victim.points(&victim.command("apply", &SHORT));
    let signals = points.iter().filter(|point| point.shown.contains("KillUnit")).count();
    assert_eq!(signals, 1, "{points:#?}");
    victim.assert_taken_back(&[], "at first");
    at_each("apply", &points, |point| {
        let how = point.to_string();
        forget(bench);
        let dockerd = bench.dockerd();
        let killed = victim.kill(&victim.command("apply", &SHORT), point);
        victim.assert_whole(&how);
        victim.assert_applied(&SHORT, &how);
        assert!(bench.key(&bench.node_key("")).is_some(), "{how}");
        assert_eq!(bench.global_networks(), "", "{how}: a probe network is left");
        victim.assert_taken_back(&[], &how);
        assert_eq!(bench.dockerd(), dockerd, "{how}");
        victim.assert_container(&how);
        killed
    });

    // A store that Docker is told for the first time takes less time than a heartbeat of one that it remembers.
    let installed = |how: &str| {
        forget(bench);
        victim.assert_applied(&SHORT, how);
    };
    installed("to be undone");
    let points = victim.points(&victim.command("undo", &[]));
    at_each("undo", &points, |point| {
        let how = point.to_string();
        installed(&how);
        let dockerd = bench.dockerd();
        let killed = victim.kill(&victim.command("undo", &[]), point);
        victim.assert_whole(&how);
        victim.assert_taken_back(&[], &how);
        assert_eq!(bench.dockerd(), dockerd, "{how}");
        victim.assert_container(&how);
        killed
    });
}

/// Around the restart.
fn a_changed_store(victim: &Victim) {
    let bench = &victim.bench;
    let second = bench.store("second");
    let changed = [&SHORT[..], &["--docker-cluster-store", &second, "--allow-restart"]].concat();
    let finished = |how: &str| {
        victim.assert_whole(how);
        victim.assert_applied(&changed, how);
        assert_eq!(bench.store_in_memory(), second, "{how}");
        assert!(bench.key(&bench.node_key("second/")).is_some(), "{how}");
        victim.assert_taken_back(&["--allow-restart"], how);
        assert_eq!(bench.store_in_memory(), "", "{how}");
        victim.assert_container(how);
    };
    // Each ends some dockerds in a short time.
    let first = || {
        bench.sh("systemctl reset-failed docker");
        victim.assert_applied(&SHORT, "the first store");
    };

    first();
    let points = victim.points(&victim.command("apply", &changed));
    finished("undisturbed");
    let restart = points.iter().position(|point| point.shown.contains("RestartUnit")).unwrap();
    let around = &points[restart..restart + 2];
    let mut killed = 0;
    for point in around {
        first();
        killed += usize::from(victim.kill(&victim.command("apply", &changed), point));
        finished(&point.to_string());
    }
    println!("killed at {killed} of {} points around the restart, of {}", around.len(), points.len());
    assert!(killed >= 1, "{around:#?}");

    // While it waits for Docker to be back, which takes a while.
    first();
    bench.sh("mkdir -p /run/systemd/system/docker.service.d; systemctl daemon-reload; \
         printf '[Service]\\nExecStartPre=/bin/sleep 3\\n' >/run/systemd/system/docker.service.d/slow.conf; \
         systemctl daemon-reload");
    let mut command = victim.command("apply", &changed);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait("the restart", LIMIT, || {
        (bench.sh("systemctl is-active docker || true") == "activating").then_some(())
    });
    child.kill().unwrap();
    assert!(kill::was_killed(child.wait().unwrap()), "it had ended before");
    finished("while it waited for the restart");
}
