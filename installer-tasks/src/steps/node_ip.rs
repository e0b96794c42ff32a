//! `node-ip`: this host's address.

use crate::exit::Result;
use crate::host::net;
use crate::options::{FindAgentOptions, NodeIpOptions};
use crate::say;

/// Prints the address on standard output.
pub fn print(options: &NodeIpOptions) -> Result<()> {
    let FindAgentOptions { etcd_endpoints, agent } = &options.agent;
    let towards = etcd_endpoints.iter().chain(&agent.mesos_agent);
    say::result(net::node_ip(agent.node_ip, towards)?);
    Ok(())
}
