//! Docker's networks.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::NetworkInspect;
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptionsBuilder};
use serde_json::{Value, json};

use super::super::http::{self, HttpError};
use super::{Docker, DockerError, Result, absent};

/// Making a network asks its plugins and the cluster store.
const CREATE_LIMIT: Duration = Duration::from_mins(1);

/// A network as Docker shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// Its full ID.
    pub id: String,
    /// Its name, which others may have, too.
    pub name: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Its driver.
    pub driver: String,
    /// `global` when it is in the cluster store.
    pub scope: String,
    /// Who gives its addresses.
    pub ipam_driver: String,
    /// Its subnets.
    pub subnets: Vec<String>,
    /// The driver's options.
    pub options: HashMap<String, String>,
    /// The containers on it, also those of other hosts, with their addresses.
    pub endpoints: Vec<String>,
}

impl From<NetworkInspect> for Network {
    fn from(answer: NetworkInspect) -> Self {
        let ipam = answer.ipam.unwrap_or_default();
        let subnets = ipam.config.unwrap_or_default().into_iter().filter_map(|config| config.subnet);
        let mut endpoints: Vec<String> = answer
            .containers
            .unwrap_or_default()
            .into_values()
            .map(|endpoint| {
                let (name, address) =
                    (endpoint.name.unwrap_or_default(), endpoint.ipv4_address.unwrap_or_default());
                format!("{name} ({})", address.trim_end_matches("/32"))
            })
            .collect();
        endpoints.sort_unstable();
        Self {
            id: answer.id.unwrap_or_default(),
            name: answer.name.unwrap_or_default(),
            created: answer.created.unwrap_or_default(),
            driver: answer.driver.unwrap_or_default(),
            scope: answer.scope.unwrap_or_default(),
            ipam_driver: ipam.driver.unwrap_or_default(),
            subnets: subnets.collect(),
            options: answer.options.unwrap_or_default(),
            endpoints,
        }
    }
}

/// A network that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNetwork<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its driver.
    pub driver: &'a str,
    /// Who gives its addresses.
    pub ipam_driver: &'a str,
    /// Its only subnet.
    pub subnet: String,
    /// The driver's options.
    pub options: Vec<(&'a str, String)>,
}

impl Docker {
    /// IDs and names of the networks that a filter of `docker network ls` gives.
    pub async fn network_ids(&self, filter: &str, value: &str) -> Result<Vec<(String, String)>> {
        let filters = HashMap::from([(filter, vec![value])]);
        let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
        let listed = self.client.list_networks(Some(options)).await;
        let listed = listed.map_err(|error| self.error("list the networks of", value, error))?;
        Ok(listed.into_iter().filter_map(|network| network.id.zip(network.name)).collect())
    }

    /// All networks of this name, without their endpoints.
    pub async fn networks(&self, name: &str) -> Result<Vec<Network>> {
        let mut networks = Vec::new();
        // The filter also takes parts of names.
        for (id, _) in self.network_ids("name", name).await?.into_iter().filter(|(_, found)| found == name) {
            let found = absent(self.client.inspect_network(&id, None::<InspectNetworkOptions>).await);
            // One that is gone meanwhile is none.
            networks.extend(
                found.map_err(|error| self.error("inspect the network", name, error))?.map(Network::from),
            );
        }
        Ok(networks)
    }

    /// All networks, as a list has them.
    pub async fn all_networks(&self) -> Result<Vec<Network>> {
        let found = self.client.list_networks(Some(ListNetworksOptionsBuilder::default().build())).await;
        let found = found.map_err(|error| self.error("list", "networks", error))?;
        let network = |it: bollard::models::Network| {
            let subnets = it.ipam.unwrap_or_default().config.unwrap_or_default();
            Network {
                id: it.id.unwrap_or_default(),
                name: it.name.unwrap_or_default(),
                driver: it.driver.unwrap_or_default(),
                subnets: subnets.into_iter().filter_map(|config| config.subnet).collect(),
                ..Network::default()
            }
        };
        Ok(found.into_iter().map(network).collect())
    }

    /// Makes a network; says whether it did, and not someone else before us. Of two hosts that do it at the same moment
    /// both may succeed: Docker's networks are known by their IDs.
    pub async fn create_network(&self, network: &NewNetwork<'_>) -> Result<bool> {
        let path = "/networks/create";
        // The client's own request cannot ask for CheckDuplicate.
        let body = create_body(network).to_string().into_bytes();
        let answer = match http::post_unix(&self.socket, path, body, CREATE_LIMIT).await {
            Ok(answer) => answer,
            Err(error @ (HttpError::Connect { .. } | HttpError::Tls(_))) => {
                return Err(DockerError::Away { socket: self.socket.clone(), reason: error.to_string() });
            }
            Err(error) => {
                let action = format!("make the network {}", network.name);
                return Err(DockerError::Refused { action, status: 0, message: error.to_string() });
            }
        };
        let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        match answer.status {
            201 => Ok(true),
            409 => Ok(false),
            status => Err(DockerError::Refused {
                action: format!("make the network {}", network.name),
                status,
                message: document["message"].as_str().unwrap_or("it gave no reason").to_owned(),
            }),
        }
    }

    /// Removes a network by its ID. One that is gone is no error.
    pub async fn remove_network(&self, id: &str) -> Result<()> {
        let answer = self.client.remove_network(id).await;
        absent(answer).map(drop).map_err(|error| self.error("remove the network", id, error))
    }
}

fn create_body(network: &NewNetwork<'_>) -> Value {
    let options: HashMap<&str, &String> =
        network.options.iter().map(|(name, value)| (*name, value)).collect();
    json!({
        "Name": network.name,
        "CheckDuplicate": true,
        "Driver": network.driver,
        "IPAM": {"Driver": network.ipam_driver, "Config": [{"Subnet": network.subnet}]},
        "Options": options,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_read_as_docker_20_10_shows_it() {
        let answer = r#"{"Name":"calico","Id":"4da9","Created":"2026-11-25T17:48:03.447095215Z","Scope":"global",
            "Driver":"calico","EnableIPv6":false,
            "IPAM":{"Driver":"calico-ipam","Options":{},"Config":[{"Subnet":"192.168.0.0/16"}]},"Internal":false,
            "Attachable":false,"Ingress":false,"ConfigFrom":{"Network":""},"ConfigOnly":false,
            "Containers":{"ep-9a":{"Name":"web","EndpointID":"9a","MacAddress":"","IPv4Address":"192.168.0.1/32",
            "IPv6Address":""}},"Options":{"org.projectcalico.profile":"calico"},"Labels":{}}"#;
        let network = Network::from(serde_json::from_str::<NetworkInspect>(answer).unwrap());
        let expected = Network {
            id: "4da9".to_owned(),
            name: "calico".to_owned(),
            created: "2026-11-25T17:48:03.447095215Z".to_owned(),
            driver: "calico".to_owned(),
            scope: "global".to_owned(),
            ipam_driver: "calico-ipam".to_owned(),
            subnets: vec!["192.168.0.0/16".to_owned()],
            options: HashMap::from([("org.projectcalico.profile".to_owned(), "calico".to_owned())]),
            endpoints: vec!["web (192.168.0.1)".to_owned()],
        };
        assert_eq!(network, expected);
    }

    #[test]
    fn docker_is_asked_to_look_for_duplicates() {
        let network = NewNetwork {
            name: "calico",
            driver: "calico",
            ipam_driver: "calico-ipam",
            subnet: "192.168.0.0/16".to_owned(),
            options: vec![("org.projectcalico.profile", "calico".to_owned())],
        };
        assert_eq!(
            create_body(&network).to_string(),
            r#"{"Name":"calico","CheckDuplicate":true,"Driver":"calico","IPAM":{"Driver":"calico-ipam","Config":[{"Subnet":"192.168.0.0/16"}]},"Options":{"org.projectcalico.profile":"calico"}}"#
        );
    }
}
