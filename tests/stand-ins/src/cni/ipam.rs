//! The plugin `calico-ipam`.

use super::{AddResult, Call, CniError, Code, Ip4, Plugin};
use crate::cidr::Cidr;
use crate::ipam::{self, Request};

/// Gives addresses from the host's block.
pub struct CalicoIpam;

impl Plugin for CalicoIpam {
    const NAME: &str = "calico-ipam";

    async fn add(&self, call: &Call) -> Result<AddResult, CniError> {
        let etcd = call.datastore().await?;
        let node = call.config.this_node();
        let (handle, pools) = (call.handle(), &call.config.ipam.ipv4_pools);
        let request = Request { node: &node, handle: &handle, pools, address: None };
        let address = ipam::assign(&etcd, request).await?;
        Ok(AddResult {
            cni_version: call.config.cni_version.clone(),
            ip4: Ip4 { ip: Cidr::containing(address, 32) },
        })
    }

    async fn del(&self, call: &Call) -> Result<(), CniError> {
        let etcd = call.datastore().await?;
        ipam::release(&etcd, &call.handle()).await?;
        Ok(())
    }

    async fn check(&self, call: &Call) -> Result<(), CniError> {
        let etcd = call.datastore().await?;
        let handle = call.handle();
        if ipam::addresses(&etcd, &handle).await?.is_empty() {
            return Err(CniError::new(Code::UnknownContainer, "the container has no address", &handle));
        }
        Ok(())
    }
}
