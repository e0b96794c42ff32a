//! `node-ip`: this host's address.

use crate::exit::Result;
use crate::host::net;
use crate::options::NodeIpOptions;

/// Prints the address on standard output.
pub fn print(options: &NodeIpOptions) -> Result<()> {
    let towards = options.etcd_endpoints.iter().chain(&options.agent.mesos_agent);
    println!("{}", net::node_ip(options.agent.node_ip, towards)?);
    Ok(())
}
