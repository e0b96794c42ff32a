//! The plugin `calico`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::config::NODENAME_FILE;
use super::wiring::Wiring;
use super::{AddResult, Call, CniError, Code, Plugin};
use crate::cidr::Cidr;
use crate::datastore::{Etcd, Expect, Store, Write};
use crate::resources::{self, EndpointSpec, Resource};

/// How long the IPAM plugin may take; longer than it waits for etcd.
const IPAM_LIMIT: Duration = Duration::from_secs(9);
/// The longest value of a label.
const LONGEST_LABEL: usize = 63;

/// Connects a container to its host by a veth pair and routes its address.
pub struct Calico;

impl Plugin for Calico {
    const NAME: &str = "calico";

    async fn add(&self, call: &Call) -> Result<AddResult, CniError> {
        let wiring = Wiring::new(call)?;
        let etcd = call.datastore().await?;
        let node = registered_node(call, &etcd).await?;
        require_profile(call, &etcd).await?;
        wiring.require_unused().await?;

        let output = delegate(call, "ADD").await?;
        let result: AddResult = match serde_json::from_slice(&output) {
            Ok(result) => result,
            Err(error) => {
                let text = format!("{error} in {:?}", String::from_utf8_lossy(&output));
                return Err(CniError::new(Code::Decoding, "the IPAM plugin's result is not valid", &text));
            }
        };
        let connected = async {
            wiring.create(result.ip4.ip, call.config.mtu).await?;
            write_endpoint(call, &etcd, &node, &wiring.host_interface, result.ip4.ip).await
        };
        if let Err(error) = connected.await {
            // What failed is what the caller must hear; what is left over is repeated by its DEL.
            for cleanup in [wiring.remove().await, delegate(call, "DEL").await.map(drop)] {
                if let Err(second) = cleanup {
                    eprintln!("calico: while taking back a failed ADD: {second}");
                }
            }
            return Err(error);
        }
        Ok(result)
    }

    /// The interface goes first: the address must not be given again while it is still used.
    async fn del(&self, call: &Call) -> Result<(), CniError> {
        Wiring::new(call)?.remove().await?;
        let etcd = call.datastore().await?;
        let key = endpoint_key(call, &call.config.this_node());
        etcd.commit(vec![Write::delete(key, Expect::Any)]).await?;
        delegate(call, "DEL").await?;
        Ok(())
    }

    async fn check(&self, call: &Call) -> Result<(), CniError> {
        let wiring = Wiring::new(call)?;
        let etcd = call.datastore().await?;
        let key = endpoint_key(call, &registered_node(call, &etcd).await?);
        let Some(entry) = etcd.get(&key).await? else {
            return Err(CniError::new(Code::UnknownContainer, "the workload endpoint is not there", &key));
        };
        let endpoint: Resource<EndpointSpec> = entry.json()?;
        let Some(&address) = endpoint.spec.ip_networks.first() else {
            return Err(entry.malformed(&"no address").into());
        };
        wiring.check(address).await?;
        delegate(call, "CHECK").await?;
        Ok(())
    }
}

/// This host's name, when calico-node runs or ran here.
async fn registered_node(call: &Call, etcd: &Etcd) -> Result<String, CniError> {
    let missing =
        |details: &str| CniError::new(Code::TryAgain, "calico-node is not ready on this host", details);
    if !call.config.nodename_file_optional && !Path::new(NODENAME_FILE).exists() {
        return Err(missing(&format!(
            "{NODENAME_FILE} does not exist; is calico-node running, with /var/lib/calico mounted?"
        )));
    }
    let node = call.config.this_node();
    match etcd.get(&format!("{}{node}", resources::NODES)).await? {
        Some(_) => Ok(node),
        None => Err(missing(&format!("node {node:?} has not registered itself in the datastore"))),
    }
}

/// Calico would make a missing profile that lets in its members only; the product must have made a better one.
async fn require_profile(call: &Call, etcd: &Etcd) -> Result<(), CniError> {
    let name = &call.config.name;
    match etcd.get(&format!("{}{name}", resources::PROFILES)).await? {
        Some(_) => Ok(()),
        None => Err(CniError::new(
            Code::Datastore,
            "the network's profile is missing",
            &format!("profile {name:?}, named after the network, is not in the datastore"),
        )),
    }
}

fn endpoint_name(node: &str, call: &Call) -> String {
    let invocation = &call.invocation;
    resources::endpoint_name(node, "cni", &invocation.container_id, &invocation.interface)
}

fn endpoint_key(call: &Call, node: &str) -> String {
    let name = endpoint_name(node, call);
    resources::endpoint_key(&name)
}

async fn write_endpoint(
    call: &Call,
    etcd: &Etcd,
    node: &str,
    host_interface: &str,
    address: Cidr,
) -> Result<(), CniError> {
    let invocation = &call.invocation;
    let spec = EndpointSpec {
        orchestrator: "cni".to_owned(),
        node: node.to_owned(),
        container_id: invocation.container_id.clone(),
        workload: String::new(),
        endpoint: invocation.interface.clone(),
        interface_name: host_interface.to_owned(),
        ip_networks: vec![address],
        profiles: vec![call.config.name.clone()],
    };
    let name = endpoint_name(node, call);
    let mut endpoint = Resource::new("WorkloadEndpoint", &name, spec);
    endpoint.metadata.namespace = Some("default".to_owned());
    endpoint.metadata.labels = labels(call)?;
    etcd.commit(vec![Write::json(resources::endpoint_key(&name), Expect::Any, &endpoint)?]).await?;
    Ok(())
}

/// The labels that Mesos gives, which become the endpoint's: Calico takes no longer values, nor other characters.
fn labels(call: &Call) -> Result<BTreeMap<String, String>, CniError> {
    let args = serde_json::Value::Object(call.config.args.clone());
    let given = args.pointer("/org.apache.mesos/network_info/labels/labels");
    let mut labels = BTreeMap::new();
    for label in given.and_then(serde_json::Value::as_array).into_iter().flatten() {
        let text = |field: &str| label[field].as_str().unwrap_or_default().to_owned();
        let (key, value) = (text("key"), text("value"));
        let inner = value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        let alphanumeric = |c: char| c.is_ascii_alphanumeric();
        let ends = value.is_empty() || value.starts_with(alphanumeric) && value.ends_with(alphanumeric);
        if value.len() > LONGEST_LABEL || !inner || !ends {
            return Err(CniError::new(
                Code::InvalidConfig,
                "a label is refused",
                &format!(
                    "{key}: {value:?} is longer than {LONGEST_LABEL} characters, or has others than letters, digits, '-', '_' and '.'"
                ),
            ));
        }
        labels.insert(key, value);
    }
    Ok(labels)
}

/// Runs the IPAM plugin with the same input and environment, but for the command.
async fn delegate(call: &Call, action: &str) -> Result<Vec<u8>, CniError> {
    let program = find_plugin(call)?;
    let failed = |details: String| {
        CniError::new(Code::Io, &format!("the IPAM plugin {} failed", program.display()), &details)
    };
    let mut child = Command::new(&program)
        .env("CNI_COMMAND", action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A plugin that ends without reading says why by its result.
        if let Err(error) = stdin.write_all(&call.stdin).await {
            eprintln!("calico: {} did not read its input: {error}", program.display());
        }
    }
    let output = match timeout(IPAM_LIMIT, child.wait_with_output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed(format!("no result within {IPAM_LIMIT:?}"))),
    };
    if output.status.success() {
        return Ok(output.stdout);
    }
    // Its error is ours, when it has one.
    Err(serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        failed(format!("{} with {:?}", output.status, String::from_utf8_lossy(&output.stdout)))
    }))
}

fn find_plugin(call: &Call) -> Result<PathBuf, CniError> {
    let name = &call.config.ipam.kind;
    let directories = &call.invocation.path;
    directories.iter().map(|directory| directory.join(name)).find(|program| program.is_file()).ok_or_else(
        || {
            let details = format!("{name} is in none of {directories:?} (CNI_PATH)");
            CniError::new(Code::InvalidEnvironment, "the IPAM plugin is missing", &details)
        },
    )
}
