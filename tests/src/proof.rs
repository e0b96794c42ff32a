//! Proves the main job on a cluster: a Mesos task or a Docker container on any agent has an IP of its own on the network,
//! and is reached at it from every agent.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::probe::{Probe, ProbeHandle, ProbeTask};

/// How long a task may take to start: its network is made first.
const START: Duration = Duration::from_secs(40);

/// Something that was shown.
#[derive(Debug, Clone)]
pub struct Proof(String);

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A task on every host of `cluster`, on `network`; each reaches all of them, its own host's too. Tells each proof
/// as it is made.
pub fn prove(cluster: &Cluster, network: &str, tell: impl FnMut(Proof)) -> Result<()> {
    prove_on(cluster, network, |_| true, tell)
}

/// The same on some hosts alone.
pub fn prove_on(
    cluster: &Cluster,
    network: &str,
    on: impl Fn(&Host<'_>) -> bool,
    mut tell: impl FnMut(Proof),
) -> Result<()> {
    let mut hosts = Vec::new();
    for host in cluster.hosts()? {
        if host.is_on()? && on(&host) {
            hosts.push((host.name().to_owned(), host.address().to_string()));
        }
    }
    let probe = Probe::connect(&cluster.master_urls().join(",")).map_err(failed)?;
    let tasks = Tasks { probe, network: network.to_owned() };
    let (_servers, addresses) = tasks.serve(&hosts, &mut tell)?;
    tasks.reach(&hosts, &addresses, &mut tell)
}

/// A Docker container on every host of `cluster`, on `network`, beside a Mesos task on each: each reaches all of both.
/// Tells each proof as it is made.
pub fn prove_docker(cluster: &Cluster, network: &str, mut tell: impl FnMut(Proof)) -> Result<()> {
    let hosts = cluster.hosts()?;
    let places: Vec<_> =
        hosts.iter().map(|host| (host.name().to_owned(), host.address().to_string())).collect();
    let probe = Probe::connect(&cluster.master_urls().join(",")).map_err(failed)?;
    let tasks = Tasks { probe, network: network.to_owned() };
    let (_servers, mut all) = tasks.serve(&places, |_| ())?;
    let mut containers = Vec::new();
    for host in &hosts {
        let container = Container::start(cluster, host, network)?;
        let ip = container.address(network)?;
        if all.contains(&ip) {
            return Err(Error::Invalid(format!("{ip} is the address of two")));
        }
        tell(Proof(format!("a Docker container on {} has the address {ip}", host.name())));
        all.push(ip);
        containers.push(container);
    }
    for container in &containers {
        for ip in &all {
            container.exec(&["/usr/bin/ping", "-c", "1", "-W", "5", &ip.to_string()])?;
        }
        let (name, count) = (container.host.name(), all.len());
        tell(Proof(format!("a Docker container on {name} reaches all {count} tasks and containers")));
    }
    tasks.reach(&places, &all[places.len()..], &mut tell)
}

/// Ordinary Mesos tasks on a network.
struct Tasks {
    probe: Probe,
    network: String,
}

impl Tasks {
    fn launch(&self, name: &str, hostname: &str, command: String) -> ProbeHandle {
        self.probe.launch(ProbeTask {
            name: name.to_owned(),
            hostname: hostname.to_owned(),
            network: Some(self.network.clone()),
            command,
            ..ProbeTask::default()
        })
    }

    /// A task on each host that stays, and their addresses, no two the same.
    fn serve(
        &self,
        hosts: &[(String, String)],
        mut tell: impl FnMut(Proof),
    ) -> Result<(Vec<ProbeHandle>, Vec<IpAddr>)> {
        // What the task itself sees of its network, then it stays.
        let show = "ip -4 -o addr show dev eth0; while :; do sleep 1; done";
        let tasks: Vec<_> =
            hosts.iter().map(|(_, address)| self.launch("server", address, show.to_owned())).collect();
        let mut addresses: Vec<IpAddr> = Vec::new();
        for ((name, host), task) in hosts.iter().zip(&tasks) {
            let ip = address(task, host)?;
            if addresses.contains(&ip) {
                return Err(Error::Invalid(format!("the task on {name} has {ip}, as another one")));
            }
            tell(Proof(format!("a task on {name} has the address {ip}, and sees it itself")));
            addresses.push(ip);
        }
        Ok((tasks, addresses))
    }

    /// A task on each host reaches all of `addresses`.
    fn reach(
        &self,
        hosts: &[(String, String)],
        addresses: &[IpAddr],
        mut tell: impl FnMut(Proof),
    ) -> Result<()> {
        let all = addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
        let ping = format!("for ip in {}; do ping -c 1 -W 5 $ip || exit 1; done", all.join(" "));
        let clients: Vec<_> =
            hosts.iter().map(|(name, host)| (name, self.launch("client", host, ping.clone()))).collect();
        for (name, task) in &clients {
            let finished = task.wait_finished(START).map_err(failed)?;
            if finished.message != "Command exited with status 0" {
                let output = task.stdout().unwrap_or_default();
                let reason =
                    format!("a task on {name} does not reach all of {all:?}: {}\n{output}", finished.message);
                return Err(Error::Invalid(reason));
            }
            tell(Proof(format!("a task on {name} reaches {}", all.join(", "))));
        }
        Ok(())
    }
}

/// A Docker container that does nothing; removed when it is dropped.
struct Container<'c> {
    host: &'c Host<'c>,
    id: String,
}

impl<'c> Container<'c> {
    fn start(cluster: &Cluster, host: &'c Host<'c>, network: &str) -> Result<Self> {
        // No image is to be had but those of the cluster's registry: the host's own programs are mounted into one.
        let folders = ["--volume=/usr:/usr:ro", "--volume=/usr/lib:/lib:ro", "--volume=/usr/lib64:/lib64:ro"];
        let network = format!("--net={network}");
        let image = cluster.node_image();
        let head = ["docker", "run", "--detach", "--init=false", &*network];
        let tail = ["--entrypoint=/usr/bin/sleep", &*image, "infinity"];
        let id = run(host, &[&head[..], &folders, &tail].concat())?;
        Ok(Self { host, id })
    }

    fn address(&self, network: &str) -> Result<IpAddr> {
        let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
        let text = run(self.host, &["docker", "inspect", "--format", &format, &self.id])?;
        text.parse().map_err(|_| {
            Error::Invalid(format!("a container on {} has the address {text:?}", self.host.name()))
        })
    }

    fn exec(&self, words: &[&str]) -> Result<String> {
        run(self.host, &[&["docker", "exec", &self.id], words].concat())
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // The cluster may be gone already.
        let _ = self.host.exec(&["docker", "rm", "--force", &self.id]);
    }
}

/// The output of a command on a host that must succeed.
fn run(host: &Host<'_>, words: &[&str]) -> Result<String> {
    let output = host.exec(words)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Invalid(format!("{words:?} on {}: {}", host.name(), said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The address that Mesos reports for a running task, when that is not its host's, and the task sees it, too.
fn address(task: &ProbeHandle, host: &str) -> Result<IpAddr> {
    let addresses = task.wait_running(START).map_err(failed)?;
    let ip = match addresses[..] {
        [ip] if ip.to_string() != host => ip,
        _ => {
            let reason = format!("{} on {host} has {addresses:?}: it should have one of its own", task.id());
            return Err(Error::Invalid(reason));
        }
    };
    let seen = || {
        let output = task.stdout().map_err(failed)?;
        let found = output.contains(&format!(" {ip}/32 "));
        Ok(if found { Ok(()) } else { Err(format!("it printed '{}'", output.trim())) })
    };
    crate::command::wait_until(
        &format!("{} seeing its address {ip}", task.id()),
        Duration::from_secs(10),
        seen,
    )?;
    Ok(ip)
}

fn failed(error: impl fmt::Display) -> Error {
    Error::Invalid(error.to_string())
}
