//! `docker-network`: the network that Docker containers use, once in the cluster.
//!
//! It is kept in Docker's cluster store, where every dockerd finds it; so nothing of it is in a host's journal. Docker
//! knows networks by their IDs: two hosts that make it at the same moment get two of one name. Each looks afterwards, all
//! choose the same one to stay, and the other is removed.

use std::fmt;

use crate::exit::{Exit, Failure, Result};
use crate::host::docker::networks::{Network, NewNetwork};
use crate::host::docker::{Docker, DockerError};
use crate::options::{DockerNetworkOptions, DockerNetworkUndoOptions};
use crate::say;
use crate::steps::libnetwork::{DRIVER, IPAM_DRIVER};
use crate::steps::model::{Applied, Report, Undone, UndoneItem};

/// The step's name.
pub const NAME: &str = "docker-network";
/// The option that names the profile of the network's endpoints.
const PROFILE: &str = "org.projectcalico.profile";
/// How often it is looked again after something was done: once for the creation, and for what comes of a race.
const ROUNDS: usize = 4;

/// One thing that is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Create { name: String, subnet: String },
    RemoveExtra { name: String, id: String },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { name, subnet } => {
                write!(f, "make Docker's network {name} ({subnet}): it is missing")
            }
            Self::RemoveExtra { name, id } => {
                write!(f, "remove a second network {name} (ID {id:.12}): two hosts made it at the same time")
            }
        }
    }
}

/// The network as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    name: String,
    subnet: String,
}

impl Wanted {
    fn of(options: &DockerNetworkOptions) -> Self {
        Self { name: options.network_name.to_string(), subnet: options.network_pool_cidr.to_string() }
    }

    fn new_network(&self) -> NewNetwork<'_> {
        NewNetwork {
            name: &self.name,
            driver: DRIVER,
            ipam_driver: IPAM_DRIVER,
            subnet: self.subnet.clone(),
            options: vec![(PROFILE, self.name.clone())],
        }
    }

    /// What differs, in words.
    fn differences(&self, network: &Network) -> Vec<String> {
        let profile = network.options.get(PROFILE).map_or("none", String::as_str);
        let subnets = network.subnets.join(", ");
        [
            ("driver", network.driver.as_str(), DRIVER),
            ("scope", network.scope.as_str(), "global"),
            ("IPAM driver", network.ipam_driver.as_str(), IPAM_DRIVER),
            ("subnet", subnets.as_str(), self.subnet.as_str()),
            (PROFILE, profile, self.name.as_str()),
        ]
        .into_iter()
        .filter(|(_, is, wanted)| is != wanted)
        .map(|(what, is, wanted)| format!("its {what} is {is}, and {wanted} is configured"))
        .collect()
    }
}

/// What is to be done about the networks of this name.
fn decide(networks: &[Network], wanted: &Wanted) -> Result<Vec<Change>> {
    let name = &wanted.name;
    for network in networks {
        let differences = wanted.differences(network);
        if !differences.is_empty() {
            return Err(Failure::unsuitable(format!(
                "Docker has a network {name} already (ID {:.12}), and it differs: {}; it is left as it is: remove it with \
                 `docker network rm`, or choose another --network-name",
                network.id,
                differences.join("; ")
            )));
        }
    }
    // All hosts must choose the same: what is used stays, then the older one.
    let stays = networks.iter().min_by_key(|it| (it.endpoints.is_empty(), &it.created, &it.id));
    let Some(stays) = stays else {
        return Ok(vec![Change::Create { name: name.clone(), subnet: wanted.subnet.clone() }]);
    };
    let extra: Vec<&Network> = networks.iter().filter(|it| it.id != stays.id).collect();
    if let Some(used) = extra.iter().find(|it| !it.endpoints.is_empty()) {
        return Err(Failure::unsuitable(format!(
            "there are {} networks {name}, and more than one is used: {:.12} by {}, {:.12} by {}; end the containers of \
             one, and remove it with `docker network rm ID`",
            networks.len(),
            stays.id,
            stays.endpoints.join(", "),
            used.id,
            used.endpoints.join(", ")
        )));
    }
    let remove = |it: &Network| Change::RemoveExtra { name: name.clone(), id: it.id.clone() };
    Ok(extra.into_iter().map(remove).collect())
}

/// Says what `apply` would do; changes nothing.
pub async fn check(options: &DockerNetworkOptions) -> Result<Report> {
    let wanted = Wanted::of(options);
    let docker = Docker::connect(&options.docker.socket).await?;
    Ok(Report::of_missing(NAME, &decide(&docker.networks(&wanted.name).await?, &wanted)?))
}

/// Makes the network where it is missing, and looks at what came of it.
pub async fn apply(options: &DockerNetworkOptions) -> Result<Applied> {
    let wanted = Wanted::of(options);
    let docker = Docker::connect(&options.docker.socket).await?;
    let mut done = Vec::new();
    for _ in 0..ROUNDS {
        let changes = decide(&docker.networks(&wanted.name).await?, &wanted)?;
        if changes.is_empty() {
            return Ok(Applied::of_done(NAME, &done));
        }
        for change in changes {
            say::progress(&change);
            let did = match &change {
                Change::Create { .. } => {
                    docker.create_network(&wanted.new_network()).await.map_err(explain)?
                }
                Change::RemoveExtra { id, .. } => docker.remove_network(id).await.map(|()| true)?,
            };
            // Otherwise another host was faster.
            if did {
                done.push(change);
            }
        }
    }
    Err(Failure::new(Exit::TryAgain, format!("Docker's network {} keeps changing under us", wanted.name)))
}

/// What Docker says when the steps before this one are missing.
fn explain(error: DockerError) -> Failure {
    let text = error.to_string();
    let failure = Failure::from(error);
    if text.contains("datastore for scope") {
        return Failure::new(
            Exit::Unavailable,
            format!("{text}: this dockerd has no cluster store, which docker-cluster-store gives to it"),
        );
    }
    if text.contains("plugin") && text.contains(DRIVER) && failure.exit() == Exit::TryAgain {
        return Failure::new(Exit::Unavailable, format!("{text}: is libnetwork ready on this host?"));
    }
    failure
}

/// Removes the network, when nothing is on it.
pub async fn undo(options: &DockerNetworkUndoOptions) -> Result<Undone> {
    let name = options.network_name.to_string();
    let docker = Docker::connect(&options.docker.socket).await?;
    let networks = docker.networks(&name).await?;
    removable(&name, &networks)?;
    let mut undone = Undone { step: NAME, items: Vec::new(), notes: Vec::new() };
    for network in &networks {
        docker.remove_network(&network.id).await?;
        let action = format!("removed Docker's network {name} (ID {:.12})", network.id);
        undone.items.push(UndoneItem::Done { action });
    }
    if docker.networks(&name).await?.is_empty() {
        return Ok(undone);
    }
    Err(Failure::new(Exit::TryAgain, format!("Docker's network {name} is still there after it was removed")))
}

fn removable(name: &str, networks: &[Network]) -> Result<()> {
    for network in networks {
        if (network.driver.as_str(), network.scope.as_str()) != (DRIVER, "global") {
            return Err(Failure::unsuitable(format!(
                "Docker's network {name} (ID {:.12}) is not ours: its driver is {} and its scope {}; it is left as it is",
                network.id, network.driver, network.scope
            )));
        }
        if !network.endpoints.is_empty() {
            return Err(Failure::new(
                Exit::TryAgain,
                format!(
                    "Docker's network {name} is used by {}: end them first",
                    network.endpoints.join(", ")
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        Wanted { name: "calico".to_owned(), subnet: "192.168.0.0/16".to_owned() }
    }

    fn network(id: &str, created: &str, endpoints: &[&str]) -> Network {
        Network {
            id: id.to_owned(),
            name: "calico".to_owned(),
            created: created.to_owned(),
            driver: DRIVER.to_owned(),
            scope: "global".to_owned(),
            ipam_driver: IPAM_DRIVER.to_owned(),
            subnets: vec!["192.168.0.0/16".to_owned()],
            options: [(PROFILE.to_owned(), "calico".to_owned())].into(),
            endpoints: endpoints.iter().map(|it| (*it).to_owned()).collect(),
        }
    }

    fn removed(changes: &[Change]) -> Vec<&str> {
        let ids = changes.iter().filter_map(|change| match change {
            Change::RemoveExtra { id, .. } => Some(id.as_str()),
            Change::Create { .. } => None,
        });
        ids.collect()
    }

    #[test]
    fn it_is_made_once() {
        let create = Change::Create { name: "calico".to_owned(), subnet: "192.168.0.0/16".to_owned() };
        assert_eq!(decide(&[], &wanted()).unwrap(), [create]);
        assert_eq!(decide(&[network("a", "1", &["web"])], &wanted()).unwrap(), []);
    }

    #[test]
    fn of_two_the_older_stays_whoever_looks_unless_the_other_is_used() {
        let (older, newer) = (network("b", "1", &[]), network("a", "2", &[]));
        for list in [[older.clone(), newer.clone()], [newer.clone(), older.clone()]] {
            assert_eq!(removed(&decide(&list, &wanted()).unwrap()), ["a"]);
        }
        let used = network("a", "2", &["web (192.168.0.1)"]);
        assert_eq!(removed(&decide(&[older, used.clone()], &wanted()).unwrap()), ["b"]);
        let failure = decide(&[network("b", "1", &["db"]), used], &wanted()).unwrap_err();
        for word in ["web (192.168.0.1)", "db", "docker network rm"] {
            assert!(failure.to_string().contains(word), "{failure}");
        }
    }

    #[test]
    fn one_that_differs_is_refused_with_all_that_differs() {
        let mut other = network("a", "1", &[]);
        other.driver = "bridge".to_owned();
        other.scope = "local".to_owned();
        other.subnets = vec!["10.0.0.0/8".to_owned()];
        other.options.clear();
        let failure = decide(&[other], &wanted()).unwrap_err();
        assert_eq!(failure.exit(), Exit::Unsuitable);
        for word in [
            "driver is bridge",
            "scope is local",
            "10.0.0.0/8, and 192.168.0.0/16",
            "profile is none",
            "--network-name",
        ] {
            assert!(failure.to_string().contains(word), "{word}: {failure}");
        }
    }

    #[test]
    fn only_an_unused_network_of_ours_is_removed() {
        removable("calico", &[network("a", "1", &[])]).unwrap();
        let failure = removable("calico", &[network("a", "1", &["web (192.168.0.1)"])]).unwrap_err();
        assert_eq!(failure.exit(), Exit::TryAgain);
        assert!(failure.to_string().contains("web (192.168.0.1)"), "{failure}");
        let mut foreign = network("a", "1", &[]);
        foreign.driver = "overlay".to_owned();
        assert_eq!(removable("calico", &[foreign]).unwrap_err().exit(), Exit::Unsuitable);
    }

    #[test]
    fn a_missing_store_and_a_missing_plugin_are_no_faults_of_the_configuration() {
        for (message, word) in [
            ("datastore for scope \"global\" is not initialized", "docker-cluster-store"),
            ("legacy plugin: plugin \"calico\" not found", "libnetwork"),
        ] {
            let error = DockerError::Refused {
                action: "make the network calico".to_owned(),
                status: 500,
                message: message.to_owned(),
            };
            let failure = explain(error);
            assert_eq!(failure.exit(), Exit::Unavailable);
            assert!(failure.to_string().contains(word), "{failure}");
        }
    }
}
