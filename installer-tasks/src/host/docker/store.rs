//! Docker and its containers as they are found: for what changes Docker, and for what takes services back.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use bollard::models::{ContainerSummary, NetworkCreateRequest, RestartPolicyNameEnum};
use bollard::query_parameters::{
    InspectContainerOptions, ListContainersOptions, ListContainersOptionsBuilder,
};
use serde::Deserialize;

use super::{Docker, DockerError, LIMIT_SECONDS, Result, absent};
use crate::host::http::{self, HttpError};

/// What dockerd says of itself. The client library has lost the fields of the cluster store, so it is asked plainly.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Info {
    /// `20.10.24`, at times with more behind it.
    pub server_version: String,
    /// The cluster store that was configured last; empty when there is none.
    pub cluster_store: String,
    /// Its own address in there.
    pub cluster_advertise: String,
    /// Whether containers outlive the daemon.
    pub live_restore_enabled: bool,
    /// Its part in a swarm.
    pub swarm: Swarm,
}

/// A daemon's part in a swarm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Swarm {
    /// `inactive`, or empty before there were swarms.
    pub local_node_state: String,
}

/// A container that runs, as far as it must run again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its full ID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was started.
    pub started_at: String,
    /// Whether dockerd starts it again after its own start, whatever it ended with.
    pub always_restarts: bool,
}

/// A container in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its full ID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `running`, `exited`, `created`, …
    pub state: String,
}

impl Listed {
    fn read(container: ContainerSummary) -> Option<Self> {
        let names = container.names.unwrap_or_default();
        Some(Self {
            id: container.id?,
            name: names.first().map_or("", |name| name.trim_start_matches('/')).to_owned(),
            state: container.state.map(|state| state.to_string()).unwrap_or_default(),
        })
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.state == "running"
    }
}

/// Asks dockerd for its [`Info`].
pub async fn info(socket: &Path) -> Result<Info> {
    let away = |reason: String| DockerError::Away { socket: socket.to_owned(), reason };
    let limit = Duration::from_secs(LIMIT_SECONDS);
    let answer = http::get_unix(socket, "/info", limit).await.map_err(|error| match error {
        HttpError::Connect { source, .. } => away(source.to_string()),
        error => away(error.to_string()),
    })?;
    let refused = |message| DockerError::Refused {
        action: "describe itself".to_owned(),
        status: answer.status,
        message,
    };
    if answer.status != 200 {
        return Err(refused(String::from_utf8_lossy(&answer.body).trim().to_owned()));
    }
    serde_json::from_slice(&answer.body).map_err(|error| refused(error.to_string()))
}

impl Docker {
    /// The containers that run.
    pub async fn running(&self) -> Result<Vec<Running>> {
        let listed = self.client.list_containers(None::<ListContainersOptions>).await;
        let listed = listed.map_err(|error| self.error("list", "containers", error))?;
        let mut running = Vec::new();
        for id in listed.into_iter().filter_map(|container| container.id) {
            let answer = absent(self.client.inspect_container(&id, None::<InspectContainerOptions>).await)
                .map_err(|error| self.error("inspect", &id, error))?;
            // It may have ended since it was listed.
            let Some(container) = answer else { continue };
            let state = container.state.unwrap_or_default();
            if state.running != Some(true) {
                continue;
            }
            let policy = container.host_config.and_then(|it| it.restart_policy).and_then(|it| it.name);
            running.push(Running {
                id,
                name: container.name.unwrap_or_default().trim_start_matches('/').to_owned(),
                started_at: state.started_at.unwrap_or_default(),
                always_restarts: matches!(
                    policy,
                    Some(RestartPolicyNameEnum::ALWAYS | RestartPolicyNameEnum::UNLESS_STOPPED)
                ),
            });
        }
        Ok(running)
    }

    /// All containers that carry a label with this value, also those that do not run.
    pub async fn labelled(&self, label: &str, value: &str) -> Result<Vec<Listed>> {
        let filter = format!("{label}={value}");
        let containers = self.listed(true, "label", &filter).await?;
        Ok(containers.into_iter().filter_map(Listed::read).collect())
    }

    /// The names of this host's running containers on a network.
    pub async fn on_network(&self, id: &str) -> Result<Vec<String>> {
        let containers = self.listed(false, "network", id).await?;
        Ok(containers.into_iter().filter_map(Listed::read).map(|it| it.name).collect())
    }

    async fn listed(&self, all: bool, filter: &str, value: &str) -> Result<Vec<ContainerSummary>> {
        let filters = HashMap::from([(filter, vec![value])]);
        let options = ListContainersOptionsBuilder::default().all(all).filters(&filters).build();
        let listed = self.client.list_containers(Some(options)).await;
        listed.map_err(|error| self.error("list the containers of", value, error))
    }

    /// Makes a network that only serves to be seen; returns its ID.
    pub async fn create_probe_network(&self, name: &str, label: &str) -> Result<String> {
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("overlay".to_owned()),
            labels: Some(HashMap::from([(label.to_owned(), "probe".to_owned())])),
            ..NetworkCreateRequest::default()
        };
        let created = self.client.create_network(request).await;
        created.map(|created| created.id).map_err(|error| self.error("create the network", name, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dockerd_says_of_itself_is_read() {
        let info: Info = serde_json::from_str(
            r#"{"ServerVersion":"20.10.24+dfsg1","ClusterStore":"etcd://10.87.0.1:2379","ClusterAdvertise":"10.0.0.1:1",
                "LiveRestoreEnabled":true,"Swarm":{"NodeID":"","LocalNodeState":"inactive"},"Containers":3}"#,
        )
        .unwrap();
        assert_eq!(info.cluster_store, "etcd://10.87.0.1:2379");
        assert_eq!(info.swarm.local_node_state, "inactive");
        assert!(info.live_restore_enabled);
        assert_eq!(serde_json::from_str::<Info>("{}").unwrap(), Info::default());
    }
}
