//! `node.*` and `registry.*`: calico-node, and where images come from.

use super::reader::{Reader, parse};
use super::{Encapsulation, FileSource};

/// Which line of Calico runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// calico/node v3, on etcd's v3 API.
    V3,
    /// calico/node v2.6, on etcd's v2 API, with Docker's network plugin inside.
    V26,
}

impl Profile {
    /// The option's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::V3 => "v3",
            Self::V26 => "v2.6",
        }
    }

    /// How packets travel between hosts when nothing else is said.
    pub(super) fn encapsulation(self) -> Encapsulation {
        match self {
            Self::V3 => Encapsulation::Vxlan,
            Self::V26 => Encapsulation::Ipip,
        }
    }

    /// What of it that line has.
    pub(super) fn encapsulations(self) -> &'static [(&'static str, Encapsulation)] {
        match self {
            Self::V3 => &Encapsulation::CHOICES,
            Self::V26 => &Encapsulation::CHOICES[1..],
        }
    }
}

/// `node.*`, `registry.*`
#[derive(Debug, Clone)]
pub struct Node {
    /// Its image.
    pub image: String,
    /// Overrides the back end that follows from the encapsulation.
    pub backend: Option<&'static str>,
    /// Overrides detection.
    pub ip: Option<String>,
    /// Overrides detection.
    pub name: Option<String>,
    /// Where images come from.
    pub registry_mirror: Option<String>,
    /// What registries are logged in to with.
    pub registry_credentials: Option<FileSource>,
}

pub(super) fn profile(reader: &mut Reader) -> Profile {
    let profiles = [Profile::V3, Profile::V26].map(|profile| (profile.word(), profile));
    reader.required("node.profile", Profile::V3, |value| parse::one_of(value, &profiles))
}

pub(super) fn node(reader: &mut Reader) -> Option<Node> {
    reader.required("node.enable", true, parse::boolean).then(|| Node {
        image: reader.required("node.image", String::new(), parse::image),
        backend: reader.optional("node.backend", |value| {
            parse::one_of(value, &[("bird", "bird"), ("vxlan", "vxlan"), ("none", "none")])
        }),
        ip: reader.optional("node.ip", |value| {
            let ip: Result<std::net::Ipv4Addr, _> = value.parse();
            ip.map(|ip| ip.to_string()).map_err(|_| "not an IPv4 address".to_owned())
        }),
        name: reader.optional("node.name", parse::node_name),
        registry_mirror: reader.optional("registry.mirror", parse::authority),
        registry_credentials: reader.optional("registry.credentials", FileSource::parse),
    })
}

/// Refuses a back end that does not carry the encapsulation.
pub(super) fn check(reader: &mut Reader, node: Option<&Node>, encapsulation: Encapsulation) {
    if let Some(backend) = node.and_then(|node| node.backend)
        && !encapsulation.backends().contains(&backend)
    {
        reader.fault(
            "node.backend",
            format!(
                "does not carry network.encapsulation = '{}': leave it out, or give one of: {}",
                encapsulation.word(),
                encapsulation.backends().join(", "),
            ),
        );
    }
}
