//! Strict stand-ins for Calico's own programs, for tests and the demo.
//!
//! None of them is Calico: they keep its interfaces (CNI, environment, etcd keys, health endpoints) as the
//! product sees them, refuse whatever Calico could not work with, and leave out what no test needs:
//! policy, NAT, encapsulation (routes go over the hosts' own network), borrowing of addresses, IPv6.
//!
//! | program | stands in for |
//! | --- | --- |
//! | `calico`, `calico-ipam` | the CNI plugins ([`cni`]) |
//! | `calicoctl` | the tool that writes pools and profiles ([`ctl`]) |
//! | `calico-node` | the only program of the image `calico/node` ([`node`]) |

pub mod cidr;
pub mod cni;
pub mod ctl;
pub mod datastore;
pub mod ipam;
#[cfg(test)]
mod memory;
pub mod node;
pub mod resources;

/// What each program says of itself.
pub fn about(program: &str) -> String {
    format!("{program} stand-in {} (calico-dcos; this is not Calico)", env!("CARGO_PKG_VERSION"))
}
