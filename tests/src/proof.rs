//! Proves the main job on a cluster: a Mesos task on any agent has an IP of its own on the network, and is reached at
//! it from every agent.

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
    let launch = |name: &str, hostname: &str, command: String| {
        probe.launch(ProbeTask {
            name: name.to_owned(),
            hostname: hostname.to_owned(),
            network: Some(network.to_owned()),
            command,
            ..ProbeTask::default()
        })
    };
    // What the task itself sees of its network, then it stays.
    let show = "ip -4 -o addr show dev eth0; while :; do sleep 1; done".to_owned();
    let targets: Vec<_> = hosts
        .iter()
        .map(|(name, address)| (name, address, launch("server", address, show.clone())))
        .collect();
    let mut addresses: Vec<(String, IpAddr)> = Vec::new();
    for (name, host, task) in &targets {
        let ip = address(task, host)?;
        if let Some((other, _)) = addresses.iter().find(|(_, taken)| *taken == ip) {
            return Err(Error::Invalid(format!("the tasks on {other} and {name} both have {ip}")));
        }
        tell(Proof(format!("a task on {name} has the address {ip}, and sees it itself")));
        addresses.push(((*name).clone(), ip));
    }
    let all: Vec<String> = addresses.iter().map(|(_, ip)| ip.to_string()).collect();
    let ping = format!("for ip in {}; do ping -c 1 -W 5 $ip || exit 1; done", all.join(" "));
    let clients: Vec<_> =
        hosts.iter().map(|(name, host)| (name, launch("client", host, ping.clone()))).collect();
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
