//! The messages of Docker's remote network drivers and IPAM drivers, as libnetwork of Docker 20.10 has them
//! (`drivers/remote/api`, `ipams/remote/api`). Unknown fields are refused.

#![allow(dead_code, reason = "fields that nobody reads are checked to be there all the same")]

use std::net::Ipv4Addr;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::cidr::Cidr;

/// The media type of all answers.
pub const MEDIA_TYPE: &str = "application/vnd.docker.plugins.v1.1+json";
/// The key under which `docker network create --opt` arrives.
pub const GENERIC: &str = "com.docker.network.generic";
/// The option that names the profile of a network's endpoints.
pub const PROFILE: &str = "org.projectcalico.profile";
/// The gateway that keeps Docker from asking for one out of the pool.
pub const NO_GATEWAY: &str = "0.0.0.0/0";
/// The address space of networks that all hosts share.
pub const GLOBAL_SPACE: &str = "CalicoGlobalAddressSpace";

/// Docker writes no options as `null`.
fn or_null<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// No field at all; Docker also sends `null` or nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// `NetworkDriver.CreateNetwork` and `AllocateNetwork`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct CreateNetwork {
    #[serde(rename = "NetworkID")]
    pub network: String,
    #[serde(default, deserialize_with = "or_null")]
    pub options: Map<String, Value>,
    #[serde(rename = "IPv4Data", default, deserialize_with = "or_null")]
    pub ipv4: Vec<IpamData>,
    #[serde(rename = "IPv6Data", default, deserialize_with = "or_null")]
    pub ipv6: Vec<IpamData>,
}

/// A subnet of a network.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct IpamData {
    #[serde(default)]
    pub address_space: String,
    pub pool: String,
    #[serde(default)]
    pub gateway: String,
    #[serde(default, deserialize_with = "or_null")]
    pub aux_addresses: Map<String, Value>,
}

/// `NetworkDriver.DeleteNetwork` and `FreeNetwork`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    #[serde(rename = "NetworkID")]
    pub network: String,
}

/// `NetworkDriver.CreateEndpoint`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct CreateEndpoint {
    #[serde(rename = "NetworkID")]
    pub network: String,
    #[serde(rename = "EndpointID")]
    pub endpoint: String,
    pub interface: Interface,
    #[serde(default, deserialize_with = "or_null")]
    pub options: Map<String, Value>,
}

/// What is known of an endpoint's interface.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Interface {
    #[serde(default)]
    pub address: String,
    #[serde(rename = "AddressIPv6", default)]
    pub address_ipv6: String,
    #[serde(default)]
    pub mac_address: String,
}

/// `NetworkDriver.DeleteEndpoint`, `Leave`, `EndpointOperInfo` and `RevokeExternalConnectivity`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    #[serde(rename = "NetworkID")]
    pub network: String,
    #[serde(rename = "EndpointID")]
    pub endpoint: String,
}

/// `NetworkDriver.Join`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Join {
    #[serde(rename = "NetworkID")]
    pub network: String,
    #[serde(rename = "EndpointID")]
    pub endpoint: String,
    pub sandbox_key: String,
    #[serde(default, deserialize_with = "or_null")]
    pub options: Map<String, Value>,
}

/// `NetworkDriver.ProgramExternalConnectivity`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct ProgramExternalConnectivity {
    #[serde(rename = "NetworkID")]
    pub network: String,
    #[serde(rename = "EndpointID")]
    pub endpoint: String,
    #[serde(default, deserialize_with = "or_null")]
    pub options: Map<String, Value>,
}

/// `NetworkDriver.DiscoverNew` and `DiscoverDelete`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Discovery {
    pub discovery_type: u32,
    pub discovery_data: Value,
}

/// The answer to Join.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Joined {
    pub interface_name: InterfaceName,
    pub gateway: Ipv4Addr,
    pub static_routes: [StaticRoute; 1],
}

/// Which interface Docker moves into the container, and how it calls it there: the prefix and a number.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InterfaceName {
    pub src_name: String,
    pub dst_prefix: &'static str,
}

/// A route in the container.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StaticRoute {
    pub destination: Cidr,
    /// 0 over a next hop, 1 directly connected.
    pub route_type: u8,
    pub next_hop: &'static str,
}

/// `IpamDriver.RequestPool`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct RequestPool {
    pub address_space: String,
    #[serde(default)]
    pub pool: String,
    #[serde(default)]
    pub sub_pool: String,
    #[serde(default, deserialize_with = "or_null")]
    pub options: Map<String, Value>,
    #[serde(default)]
    pub v6: bool,
}

/// `IpamDriver.ReleasePool`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleasePool {
    #[serde(rename = "PoolID")]
    pub pool: String,
}

/// `IpamDriver.RequestAddress`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct RequestAddress {
    #[serde(rename = "PoolID")]
    pub pool: String,
    #[serde(default)]
    pub address: String,
    #[serde(default, deserialize_with = "or_null")]
    pub options: Map<String, Value>,
}

/// `IpamDriver.ReleaseAddress`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseAddress {
    #[serde(rename = "PoolID")]
    pub pool: String,
    #[serde(rename = "Address", default)]
    pub address: String,
}
