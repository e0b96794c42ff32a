//! One network namespace a cluster: a bridge that is reached from the machine by a veth, with no way further.

use std::fs;
use std::net::Ipv4Addr;

use crate::command::{command, ip, run};
use crate::error::{Error, Result};
use crate::lock::Lock;
use crate::paths::Paths;
use crate::state;

/// The bridge, in the cluster's namespace.
pub(crate) const BRIDGE: &str = "br0";

/// The addresses 10.87.`subnet`.0/24 of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subnet(pub u8);

impl Subnet {
    fn address(self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 87, self.0, last)
    }

    /// The bridge: etcd, ZooKeeper, the first master, the artifact server.
    pub fn services(self) -> Ipv4Addr {
        self.address(1)
    }

    /// Master `number`, from 1.
    pub fn master(self, number: u8) -> Ipv4Addr {
        self.address(number)
    }

    /// Host `number`, from 1.
    pub fn host(self, number: u8) -> Ipv4Addr {
        self.address(10 + number)
    }

    /// The machine's own end.
    pub fn machine(self) -> Ipv4Addr {
        self.address(254)
    }

    /// The machine's end of the veth.
    pub fn interface(self) -> String {
        format!("calico-dcos-{}", self.0)
    }
}

/// A subnet that neither another cluster nor the machine uses. Call with the lock `subnets` held until it is
/// written down.
pub(crate) fn free_subnet() -> Result<Subnet> {
    let mut used: Vec<u8> = Vec::new();
    for name in state::names()? {
        // One that cannot be read has its addresses on an interface, if anywhere.
        used.extend(state::load(&name).ok().flatten().map(|state| state.subnet));
    }
    let addresses = run(&mut command("ip", ["-o", "-4", "address"]))?.stdout;
    let routes = run(&mut command("ip", ["-4", "route"]))?.stdout;
    let text = String::from_utf8_lossy(&[addresses, routes].concat()).into_owned();
    first_free(&used, &text).map(Subnet).ok_or_else(|| {
        Error::Invalid("all of 10.87.0.0/16 is in use: end other clusters with `cluster down`".to_owned())
    })
}

fn first_free(used: &[u8], in_kernel: &str) -> Option<u8> {
    (0..=255).find(|number| !used.contains(number) && !in_kernel.contains(&format!(" 10.87.{number}.")))
}

/// Makes the namespace with its bridge, and the way from the machine.
pub(crate) fn create(name: &str, subnet: Subnet, masters: u8, lock: &Lock) -> Result<()> {
    // Where we die meanwhile, whoever takes the cluster down waits until it is made.
    run(command("ip", ["netns", "add", name]).stdin(lock.share()?))?;
    ip(&format!("-n {name} link set lo up"))?;
    ip(&format!("-n {name} link add {BRIDGE} type bridge"))?;
    for number in 1..=masters {
        ip(&format!("-n {name} address add {}/24 dev {BRIDGE}", subnet.master(number)))?;
    }
    ip(&format!("-n {name} link set {BRIDGE} up"))?;
    let interface = subnet.interface();
    ip(&format!("link add {interface} type veth peer name machine netns {name}"))?;
    ip(&format!("-n {name} link set machine master {BRIDGE} up"))?;
    ip(&format!("address add {}/24 dev {interface}", subnet.machine()))?;
    ip(&format!("link set {interface} up"))?;
    Ok(())
}

/// Removes the namespace, in which no process is any more, and the way to it.
pub(crate) fn remove(name: &str, paths: &Paths, subnet: Option<Subnet>) -> Result<()> {
    if let Some(interface) = subnet.map(Subnet::interface)
        && fs::exists(format!("/sys/class/net/{interface}")).unwrap_or_default()
    {
        ip(&format!("link delete {interface}"))?;
    }
    if paths.netns.exists() {
        ip(&format!("netns delete {name}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_is_free_when_nobody_uses_it() {
        assert_eq!(first_free(&[], ""), Some(0));
        assert_eq!(first_free(&[0, 1], "2: x inet 10.87.2.254/24 scope global x"), Some(3));
        assert_eq!(first_free(&[], "default via 10.87.10.1 dev eth0"), Some(0), "10.87.10 is not 10.87.1");
        assert_eq!(first_free(&(0..=255).collect::<Vec<_>>(), ""), None);
    }

    #[test]
    fn addresses_follow_the_number() {
        let subnet = Subnet(7);
        assert_eq!(subnet.host(1).to_string(), "10.87.7.11");
        assert_eq!(subnet.machine().to_string(), "10.87.7.254");
        assert!(Subnet(255).interface().len() <= 15, "the kernel takes 15 characters");
    }
}
