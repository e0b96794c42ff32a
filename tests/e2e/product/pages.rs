//! What operators read: every command on the pages is run, in their order, where the page says, on plain Mesos.
//!
//! A block of code is run as the comment before it says: `on every host`, `on one host`, `on another host`; `gives NAME` puts
//! what it wrote last into that variable for all later blocks. Marathon is stood in for: an app is launched as Marathon
//! would, on one host, and must run. What is of Mesos 0.28, which could not be had, is `installer-tasks/tests/net_modules_page.rs`'.

#[path = "../../../installer-tasks/tests/support/page.rs"]
mod page;

use std::collections::BTreeMap;
use std::time::Duration;

use cluster::probe::{Probe, ProbeHandle, ProbeTask};
use cluster::{Cluster, Host, Progress, Spec, test_lock};
use serde::Deserialize;
use serde_json::Value;

use crate::docker::{look, sh};
use crate::wait;
use page::{Block, page};

/// How long a task may take to start: its network is made first.
const START: Duration = Duration::from_mins(1);
/// What stands in for an image of a registry: the host's own programs that the page uses.
const ALPINE: &str = "tar -h -C / -c usr/bin/sleep usr/bin/ping usr/bin/dash lib64/ld-linux-x86-64.so.2 \
                      $(ldd /usr/bin/sleep /usr/bin/ping /usr/bin/dash | grep -o '/lib/[^ ]*' | sort -u | cut -c2-) | \
                      docker import -c 'ENV PATH=/usr/bin' - alpine";

/// The blocks of a page that are run here, in their order.
fn blocks(page: &str) -> Vec<Block> {
    page::blocks(page).into_iter().filter(|block| !block.place.ends_with(page::OLD)).collect()
}

/// A Marathon app, as the pages have it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct App {
    id: String,
    instances: u32,
    cpus: f64,
    mem: f64,
    cmd: String,
    container: Container,
    networks: [Network; 1],
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "UPPERCASE", deny_unknown_fields)]
enum Container {
    Mesos {},
    Docker { docker: Image },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    image: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Network {
    mode: String,
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// Mesos' `ContainerInfo`, as the pages have it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContainerInfo {
    r#type: String,
    network_infos: [NetworkInfo; 1],
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkInfo {
    name: String,
    labels: Labels,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Labels {
    labels: Vec<Label>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Label {
    key: String,
    value: String,
}

/// Whoever follows the pages.
struct Operator<'a> {
    cluster: &'a Cluster,
    hosts: Vec<Host<'a>>,
    probe: Probe,
    variables: BTreeMap<String, String>,
    tasks: Vec<ProbeHandle>,
}

impl Operator<'_> {
    fn follow(&mut self, name: &str, blocks: &[Block]) {
        for block in blocks {
            eprintln!("{name}, line {}: {}", block.line, block.place);
            let (place, gives) = block
                .place
                .split_once(", gives ")
                .map_or((&*block.place, None), |(place, name)| (place, Some(name)));
            let hosts = match place {
                "on every host" => &self.hosts[..],
                "on one host" => &self.hosts[..1],
                "on another host" => &self.hosts[1..],
                "marathon app" => {
                    self.launch(&serde_json::from_str(&block.text).unwrap());
                    continue;
                }
                "container" => {
                    self.launch_container(serde_json::from_str(&block.text).unwrap());
                    continue;
                }
                place => {
                    let file = place.strip_prefix("file ").unwrap_or_else(|| panic!("where is '{place}'?"));
                    self.write(file, &block.text);
                    continue;
                }
            };
            assert_eq!(block.language, "sh", "{name}, line {}", block.line);
            let mut last = String::new();
            for host in hosts {
                last = self.run(host, name, block);
            }
            if let Some(variable) = gives {
                self.variables.insert(variable.to_owned(), last);
            }
        }
    }

    fn run(&self, host: &Host<'_>, name: &str, block: &Block) -> String {
        let mut words = vec!["env".to_owned()];
        words.extend(self.variables.iter().map(|(name, value)| format!("{name}={value}")));
        words.extend(["sh", "-euc", &block.text].map(ToOwned::to_owned));
        let output = host.exec(&words).unwrap();
        let (said, wrong) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(
            output.status.success(),
            "{name}, line {} on {}: {}\n{said}{wrong}",
            block.line,
            host.name(),
            output.status
        );
        said.trim().to_owned()
    }

    /// Writes a file to all hosts, with this cluster's values in place of the page's examples.
    fn write(&self, path: &str, text: &str) {
        let hash = |name: &str| self.cluster.artifact(name).unwrap().split_once('#').unwrap().1.to_owned();
        let program = |name: &str| format!("/opt/calico-dcos/{name}#{}", hash(name));
        let own = BTreeMap::from([
            ("CALICO_ETCD_ENDPOINTS", self.cluster.etcd_endpoint()),
            ("CALICO_ARTIFACTS_ETCD", program("etcd")),
            ("CALICO_ARTIFACTS_CNI", program("calico")),
            ("CALICO_ARTIFACTS_CNI_IPAM", program("calico-ipam")),
            ("CALICO_ARTIFACTS_CALICOCTL", program("calicoctl")),
            ("CALICO_NODE_IMAGE", self.cluster.node_image()),
            ("CALICO_LIBNETWORK_IMAGE", self.cluster.libnetwork_image()),
        ]);
        let lines: Vec<_> = text.lines().map(|line| line.split_once('=').unwrap()).collect();
        assert!(own.keys().all(|name| lines.iter().any(|(there, _)| there == name)), "{text}");
        let filled = lines.iter().map(|(name, example)| {
            let value = own.get(name).map_or(*example, |value| value);
            assert!(!value.contains("HEX"), "{name} has no value");
            format!("{name}={value}\n")
        });
        let filled = filled.collect::<String>();
        for host in &self.hosts {
            std::fs::write(host.root().join(path.trim_start_matches('/')), &filled).unwrap();
        }
    }

    /// As Marathon does, on the first host.
    fn launch(&mut self, app: &App) {
        let [Network { mode, name, labels }] = &app.networks;
        assert_eq!((app.instances, &**mode), (1, "container"), "{app:?}");
        let cmd = self
            .variables
            .iter()
            .fold(app.cmd.clone(), |cmd, (name, value)| cmd.replace(&format!("${name}"), value));
        match &app.container {
            Container::Mesos {} => self.task(&app.id, app.cpus, app.mem, cmd, name, labels.clone()),
            Container::Docker { docker } => {
                let (id, image) = (app.id.trim_matches('/'), &docker.image);
                sh(
                    &self.hosts[0],
                    &format!("docker run -d --name {id} --net {name} {image} dash -c '{cmd}'"),
                );
                wait("the container's ping", START, || {
                    sh(&self.hosts[0], &format!("docker logs {id}")).contains("1 received").then_some(())
                });
                sh(&self.hosts[0], &format!("docker rm -f {id}"));
            }
        }
    }

    fn launch_container(&mut self, container: ContainerInfo) {
        let [NetworkInfo { name, labels }] = container.network_infos;
        assert_eq!(container.r#type, "MESOS");
        let labels = labels.labels.into_iter().map(|Label { key, value }| (key, value)).collect();
        let ping = format!("ping -c 1 -W 5 {} && sleep 1000", self.variables["ADDRESS"]);
        self.task("own", 0.1, 32.0, ping, &name, labels);
        let task = self.tasks.last().unwrap();
        wait("the task's ping", START, || task.stdout().ok()?.contains("1 received").then_some(()));
    }

    /// A task that runs on, with an address that the other host reaches.
    fn task(
        &mut self,
        id: &str,
        cpus: f64,
        mem: f64,
        command: String,
        network: &str,
        labels: BTreeMap<String, String>,
    ) {
        let task = self.probe.launch(ProbeTask {
            name: id.trim_matches('/').to_owned(),
            hostname: self.hosts[0].address().to_string(),
            network: Some(network.to_owned()),
            network_labels: labels,
            command,
            cpus,
            mem,
            ..ProbeTask::default()
        });
        let address = task.wait_running(START).unwrap()[0];
        sh(&self.hosts[1], &format!("ping -c 1 -W 5 {address}"));
        self.tasks.push(task);
    }
}

#[test]
fn what_the_pages_say_works_on_plain_mesos_without_a_scheduler() {
    let _lock = test_lock().unwrap();
    let spec = Spec { name: "e2e-pages".to_owned(), ..Spec::default() };
    let cluster = Cluster::up(&spec, &Progress::stderr()).unwrap();
    // The first is set up as DC/OS does.
    let hosts = cluster.hosts().unwrap().split_off(1);
    for host in &hosts {
        sh(host, ALPINE);
    }
    let before: Vec<_> = hosts.iter().map(look).collect();
    let probe = Probe::connect(&cluster.master_urls()[0]).unwrap();
    let variables = BTreeMap::from([("FILES".to_owned(), format!("http://{}", cluster.registry()))]);
    let mut operator = Operator { cluster: &cluster, hosts, probe, variables, tasks: Vec::new() };

    let (manual, usage) = (page("manual-install.md"), page("usage.md"));
    let upgrade = manual.lines().position(|line| line == "## An upgrade").unwrap() + 1;
    let (install, rest): (Vec<_>, Vec<_>) =
        blocks(&manual).into_iter().partition(|block| block.line < upgrade);
    operator.follow("manual-install.md", &install);
    operator.follow("usage.md", &blocks(&usage));
    let endpoints: Value = serde_json::from_str(&operator.variables["ENDPOINTS"]).unwrap();
    let roles: Vec<_> =
        endpoints["items"].as_array().unwrap().iter().map(|it| &it["metadata"]["labels"]["role"]).collect();
    assert!(roles.contains(&&"web".into()) && roles.contains(&&"client".into()), "{endpoints}");

    // Too early: a task that is still there keeps its way to be disconnected.
    let too_early = rest.iter().find(|block| block.text.contains("cni undo")).unwrap();
    let output = operator.hosts[0].exec(&["sh", "-euc", &too_early.text].map(ToOwned::to_owned)).unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", String::from_utf8_lossy(&output.stderr));
    sh(&operator.hosts[0], "systemctl is-active calico-etcd-proxy calico-node calico-libnetwork");
    for task in operator.tasks.drain(..) {
        task.kill(Some(Duration::ZERO));
        task.wait_finished(START).unwrap();
    }
    // One way only was taken there: its service is missed nowhere.
    let unit = "/etc/systemd/system/calico-libnetwork.service";
    sh(
        &operator.hosts[1],
        &format!("systemctl disable --now calico-libnetwork; rm {unit}; systemctl daemon-reload"),
    );
    operator.follow("manual-install.md", &rest);
    for (host, before) in operator.hosts.iter().zip(before) {
        let (after, name) = (look(host), host.name());
        let other: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
        let gone: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
        assert!(other.is_empty() && gone.is_empty(), "{name}: new {other:#?}, gone {gone:#?}");
    }
}
