//! The resources of Calico v2, as its calicoctl (v1) reads and writes them: `apiVersion: v1`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Metadata, PoolSpec, Resource, default_block_size, never};

/// What calicoctl calls pools.
pub(super) const POOLS: &str = "ipPool";
/// What it calls profiles.
pub(super) const PROFILES: &str = "profile";

/// A pool, which has no name but its CIDR.
#[derive(Debug, Deserialize)]
pub(super) struct Pool {
    metadata: PoolMetadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Debug, Deserialize)]
struct PoolMetadata {
    cidr: String,
}

#[derive(Debug, Default, Deserialize)]
struct Spec {
    ipip: Option<Ipip>,
    #[serde(rename = "nat-outgoing", default)]
    nat_outgoing: bool,
}

#[derive(Debug, Deserialize)]
struct Ipip {
    #[serde(default)]
    enabled: bool,
    #[serde(default)]
    mode: String,
}

impl From<Pool> for Resource<PoolSpec> {
    fn from(Pool { metadata: PoolMetadata { cidr }, spec }: Pool) -> Self {
        let ipip_mode = match spec.ipip {
            Some(Ipip { enabled: true, mode }) if mode == "cross-subnet" => "CrossSubnet".to_owned(),
            Some(Ipip { enabled: true, .. }) => "Always".to_owned(),
            _ => never(),
        };
        Self {
            metadata: Metadata { name: cidr.clone() },
            spec: PoolSpec {
                cidr,
                block_size: default_block_size(),
                ipip_mode,
                vxlan_mode: never(),
                nat_outgoing: spec.nat_outgoing,
            },
        }
    }
}

/// The pool as it is made.
pub(super) fn pool(spec: &PoolSpec) -> Value {
    let mut ipip = json!({ "enabled": spec.ipip_mode != never() });
    if spec.ipip_mode != never() {
        ipip["mode"] = "always".into();
    }
    json!({
        "apiVersion": "v1",
        "kind": POOLS,
        "metadata": { "cidr": spec.cidr },
        "spec": { "ipip": ipip, "nat-outgoing": spec.nat_outgoing },
    })
}

/// The profile as it is made.
pub(super) fn profile(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": PROFILES,
        "metadata": { "name": name },
        "spec": { "ingress": [{ "action": "allow" }], "egress": [{ "action": "allow" }] },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(ipip: bool) -> PoolSpec {
        PoolSpec {
            cidr: "192.168.0.0/16".into(),
            block_size: 26,
            ipip_mode: if ipip { "Always".into() } else { never() },
            vxlan_mode: never(),
            nat_outgoing: true,
        }
    }

    #[test]
    fn what_is_made_is_read_as_it_was_meant() {
        for ipip in [true, false] {
            let made = pool(&spec(ipip));
            let read: Pool = serde_json::from_value(made.clone()).unwrap();
            assert_eq!(Resource::from(read).spec, spec(ipip), "{made}");
        }
        assert_eq!(
            pool(&spec(true)).to_string(),
            r#"{"apiVersion":"v1","kind":"ipPool","metadata":{"cidr":"192.168.0.0/16"},"spec":{"ipip":{"enabled":true,"mode":"always"},"nat-outgoing":true}}"#
        );
        assert_eq!(
            profile("calico").to_string(),
            r#"{"apiVersion":"v1","kind":"profile","metadata":{"name":"calico"},"spec":{"ingress":[{"action":"allow"}],"egress":[{"action":"allow"}]}}"#
        );
    }

    #[test]
    fn an_answer_of_calicoctl_is_read() {
        let answer = r#"[{"kind":"ipPool","apiVersion":"v1","metadata":{"cidr":"10.0.0.0/8"},
            "spec":{"ipip":{"enabled":true,"mode":"cross-subnet"}}},
            {"kind":"ipPool","apiVersion":"v1","metadata":{"cidr":"10.1.0.0/16"}}]"#;
        let pools: Vec<Pool> = serde_json::from_str(answer).unwrap();
        let pools: Vec<Resource<PoolSpec>> = pools.into_iter().map(Into::into).collect();
        assert_eq!((&*pools[0].metadata.name, &*pools[0].spec.ipip_mode), ("10.0.0.0/8", "CrossSubnet"));
        assert_eq!((&*pools[1].spec.ipip_mode, pools[1].spec.nat_outgoing), ("Never", false));
    }
}
