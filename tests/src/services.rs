//! etcd, ZooKeeper and the masters: from the base image, in the cluster's network namespace.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::cgroups::Hierarchies;
use crate::command::{command, last_lines, wait_until};
use crate::error::{Context, Error, Result};
use crate::network::Subnet;
use crate::paths::Paths;
use crate::process::{self, Identity};
use crate::spec::Spec;
use crate::{http, mounts};

/// The root folder that they share.
pub(crate) const ROOT: &str = "services";
/// How long a service may take until it answers.
const START: Duration = Duration::from_mins(1);
const ETCD_PORT: u16 = 2379;
const ZOOKEEPER_PORT: u16 = 2181;
/// The port of every master.
pub(crate) const MASTER_PORT: u16 = 5050;

/// A service: what to run in the shared root, and what to ask until it is there.
#[derive(Debug)]
pub(crate) struct Service {
    pub name: String,
    words: Vec<String>,
    server: SocketAddr,
    path: Option<&'static str>,
}

/// All services of a cluster, in the order of their start.
pub(crate) fn all(spec: &Spec, subnet: Subnet) -> Vec<Service> {
    let mut services = vec![etcd(subnet)];
    if spec.masters > 1 {
        services.extend((1..=spec.masters).map(|number| zookeeper(spec, subnet, number)));
    }
    services.extend((1..=spec.masters).map(|number| master(spec, subnet, number)));
    services
}

/// Where agents and frameworks find the leading master: `host:port`, or `zk://…` when there are several.
pub(crate) fn leader(spec: &Spec, subnet: Subnet) -> String {
    if spec.masters > 1 {
        let servers = (1..=spec.masters).map(|number| format!("{}:{ZOOKEEPER_PORT}", subnet.master(number)));
        format!("zk://{}/mesos", servers.collect::<Vec<_>>().join(","))
    } else {
        format!("{}:{MASTER_PORT}", subnet.services())
    }
}

/// The address of etcd's clients.
pub(crate) fn etcd_endpoint(subnet: Subnet) -> String {
    format!("http://{}:{ETCD_PORT}", subnet.services())
}

fn etcd(subnet: Subnet) -> Service {
    let client = etcd_endpoint(subnet);
    let words = [
        "/usr/bin/etcd",
        "--data-dir=/var/lib/cluster-etcd",
        &format!("--listen-client-urls={client}"),
        &format!("--advertise-client-urls={client}"),
        "--listen-peer-urls=http://127.0.0.1:2380",
        // dockerd's cluster store speaks the v2 API.
        "--enable-v2",
        // What is written is lost with the machine only, and so is the cluster.
        "--unsafe-no-fsync",
    ];
    let server = SocketAddr::from((subnet.services(), ETCD_PORT));
    Service { name: "etcd".to_owned(), words: owned(&words), server, path: Some("/health") }
}

/// One server of the ensemble, at the address of the master of that number.
fn zookeeper(spec: &Spec, subnet: Subnet, number: u8) -> Service {
    let (address, folder) = (subnet.master(number), format!("/var/lib/cluster-zookeeper-{number}"));
    let member = |number| format!("server.{number}={}:2888:3888\\n", subnet.master(number));
    let members = (1..=spec.masters).map(member).collect::<Vec<_>>().concat();
    let script = format!(
        "mkdir -p {folder} && echo {number} >{folder}/myid && \
         printf 'tickTime=2000\\ninitLimit=10\\nsyncLimit=5\\ndataDir={folder}\\nclientPort={ZOOKEEPER_PORT}\\n\
         clientPortAddress={address}\\nadmin.enableServer=false\\nforceSync=no\\nmaxClientCnxns=0\\n{members}' \
         >{folder}/zoo.cfg && \
         exec java -Xmx128m -Dzookeeper.log.threshold=INFO -cp '/usr/share/java/*' \
         org.apache.zookeeper.server.quorum.QuorumPeerMain {folder}/zoo.cfg"
    );
    Service {
        name: format!("zookeeper-{number}"),
        words: owned(&["sh", "-c", &script]),
        server: SocketAddr::from((address, ZOOKEEPER_PORT)),
        path: None,
    }
}

fn master(spec: &Spec, subnet: Subnet, number: u8) -> Service {
    let address = subnet.master(number);
    let mut settings = vec![
        format!("LIBPROCESS_IP={address}"),
        format!("LIBPROCESS_PORT={MASTER_PORT}"),
        format!("MESOS_HOSTNAME={address}"),
        format!("MESOS_WORK_DIR=/var/lib/mesos/master-{number}"),
        "MESOS_NUM_SLAVES=0".to_owned(),
        "MESOS_ALLOCATION_INTERVAL=200ms".to_owned(),
    ];
    if spec.masters > 1 {
        settings.push(format!("MESOS_ZK={}", leader(spec, subnet)));
    }
    // The last setting of a name wins.
    settings.extend(spec.master_env.iter().map(|(name, value)| format!("{name}={value}")));
    let words =
        ["env".to_owned()].into_iter().chain(settings).chain(["/opt/mesos/bin/mesos-master".to_owned()]);
    let server = SocketAddr::from((address, MASTER_PORT));
    Service { name: format!("master-{number}"), words: words.collect(), server, path: Some("/health") }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Makes the root folder of the services.
pub(crate) fn make_root(spec: &Spec, paths: &Paths, base: &Path, mesos: &Path) -> Result<()> {
    let root = paths.mount_point(ROOT);
    mounts::overlay(base, &paths.disks.join(ROOT), &root)?;
    mounts::proc(&root.join("proc"))?;
    mounts::bind(Path::new("/dev"), &root.join("dev"))?;
    mounts::bind(mesos, &root.join("opt/mesos"))?;
    for (path, content) in &spec.master_files {
        let file = root.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(file.parent().unwrap_or(&root)).at("make the folder of", &file)?;
        std::fs::write(&file, content).at("write", &file)?;
    }
    let hosts = root.join("etc/hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n").at("write", &hosts)
}

impl Service {
    /// Starts it; it may not answer yet.
    pub fn start(&self, cluster: &str) -> Result<Identity> {
        let paths = Paths::of(cluster);
        let group = Hierarchies::mounted()?.create(&process_group(cluster, &self.name))?;
        let mut chroot = command("chroot", [paths.mount_point(ROOT)]);
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        chroot.args(["env", "-i", path, "LC_ALL=C.UTF-8"]).args(&self.words);
        process::detach(&group, &paths.log(&self.name), &process::in_netns(&paths.netns, &chroot))
    }

    /// Waits until it answers.
    pub fn wait_ready(&self, cluster: &str, started: Identity) -> Result<()> {
        let log = Paths::of(cluster).log(&self.name);
        wait_until(&format!("the start of {}", self.name), START, || {
            if !started.is_alive() {
                let written = std::fs::read_to_string(&log).unwrap_or_default();
                let output = last_lines(&written, 15);
                return Err(Error::Command {
                    command: self.name.clone(),
                    status: "an early end".to_owned(),
                    output,
                });
            }
            Ok(self.answers().map_err(|why| format!("{why}; see {}", log.display())))
        })
    }

    fn answers(&self) -> Result<(), String> {
        match self.path {
            Some(path) => http::get(self.server, path).map(|_| ()),
            None => std::net::TcpStream::connect_timeout(&self.server, Duration::from_secs(1))
                .map(|_| ())
                .map_err(|error| format!("{}: {error}", self.server)),
        }
    }
}

/// The control group of a process that is no host.
pub(crate) fn process_group(cluster: &str, process: &str) -> String {
    format!("{cluster}/processes/{process}")
}
