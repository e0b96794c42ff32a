//! `node-ip`: this host's address.

use crate::exit::Result;
use crate::host::{Host, net};
use crate::options::{FindAgentOptions, NodeIpOptions};
use crate::say;

/// Prints the address on standard output.
pub async fn print(host: &Host, options: &NodeIpOptions) -> Result<()> {
    let FindAgentOptions { etcd_endpoints, agent } = &options.agent;
    let towards = etcd_endpoints.iter().chain(&agent.mesos_agent);
    say::result(net::own_ip(host, agent.node_ip, towards).await?);
    Ok(())
}
