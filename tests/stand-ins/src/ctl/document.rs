//! What `calicoctl` is given in a file: resources as JSON, checked before anything is written.

use std::net::Ipv4Addr;

use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

use crate::cidr::Cidr;
use crate::resources::{API_VERSION, IpPoolSpec, Mode, ProfileSpec, Resource};

/// Why a file is refused.
#[derive(Debug, Error)]
pub enum DocumentError {
    /// Not JSON; YAML is not read by the stand-in.
    #[error("the input is not JSON ({0}); this stand-in reads JSON, which is YAML too, and no other YAML")]
    Json(serde_json::Error),
    /// No resource in it.
    #[error("the input holds no resource; expected an object with kind and apiVersion, or a list of them")]
    Empty,
    /// A resource of a kind that is not known.
    #[error("resource {number}: kind {kind:?} is not supported; expected IPPool, Profile or List")]
    Kind {
        /// Counted from 1.
        number: usize,
        /// What it says.
        kind: String,
    },
    /// A resource that breaks a rule.
    #[error("resource {number} ({kind}): {reason}")]
    Invalid {
        /// Counted from 1.
        number: usize,
        /// Its kind.
        kind: &'static str,
        /// All that is wrong.
        reason: String,
    },
}

/// A resource that can be applied.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// A pool.
    Pool(Resource<IpPoolSpec>),
    /// A profile.
    Profile(Resource<ProfileSpec>),
}

/// Reads one resource, an array of them, or a `List`.
pub fn parse(text: &str) -> Result<Vec<Document>, DocumentError> {
    let value: Value = serde_json::from_str(text).map_err(DocumentError::Json)?;
    let items = match value {
        Value::Array(items) => items,
        Value::Object(mut object) if object.get("kind").is_some_and(|kind| kind == "List") => {
            match object.remove("items") {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            }
        }
        other => vec![other],
    };
    if items.is_empty() {
        return Err(DocumentError::Empty);
    }
    items.into_iter().enumerate().map(|(index, item)| resource(index + 1, item)).collect()
}

fn resource(number: usize, item: Value) -> Result<Document, DocumentError> {
    match item.get("kind").and_then(Value::as_str) {
        Some("IPPool") => typed(number, "IPPool", item, check_pool).map(Document::Pool),
        Some("Profile") => typed(number, "Profile", item, |_| Vec::new()).map(Document::Profile),
        Some(kind) => Err(DocumentError::Kind { number, kind: kind.to_owned() }),
        None => Err(DocumentError::Kind { number, kind: String::new() }),
    }
}

fn typed<S: DeserializeOwned>(
    number: usize,
    kind: &'static str,
    item: Value,
    check: impl Fn(&S) -> Vec<String>,
) -> Result<Resource<S>, DocumentError> {
    let invalid = |reason| DocumentError::Invalid { number, kind, reason };
    let resource: Resource<S> = serde_json::from_value(item).map_err(|error| invalid(error.to_string()))?;
    let mut faults = Vec::new();
    if resource.api_version != API_VERSION {
        faults.push(format!("apiVersion {:?}; expected {API_VERSION:?}", resource.api_version));
    }
    if !valid_name(&resource.metadata.name) {
        faults.push(format!(
            "metadata.name {:?}; expected lower-case letters, digits, '-' and '.', a letter or digit first and last",
            resource.metadata.name
        ));
    }
    if resource.metadata.namespace.is_some() {
        faults.push("metadata.namespace is not allowed: the resource belongs to no namespace".to_owned());
    }
    faults.extend(check(&resource.spec));
    if faults.is_empty() { Ok(resource) } else { Err(invalid(faults.join("; "))) }
}

fn valid_name(name: &str) -> bool {
    crate::cni::valid_node_name(name)
}

fn check_pool(pool: &IpPoolSpec) -> Vec<String> {
    let mut faults = Vec::new();
    if !(20..=32).contains(&pool.block_size) {
        faults.push(format!("spec.blockSize {}; expected 20 to 32", pool.block_size));
    } else if pool.cidr.length() > pool.block_size {
        faults.push(format!("spec.cidr {} is smaller than a block of /{}", pool.cidr, pool.block_size));
    }
    if pool.ipip_mode != Mode::Never && pool.vxlan_mode != Mode::Never {
        faults.push("spec.ipipMode and spec.vxlanMode cannot both be enabled".to_owned());
    }
    if pool.node_selector != "all()" {
        faults
            .push(format!("spec.nodeSelector {:?}; this stand-in knows only \"all()\"", pool.node_selector));
    }
    let reserved = [
        (Cidr::containing(Ipv4Addr::LOCALHOST, 8), "loopback"),
        (Cidr::containing(Ipv4Addr::new(169, 254, 0, 0), 16), "link-local"),
        (Cidr::containing(Ipv4Addr::new(224, 0, 0, 0), 4), "multicast"),
    ];
    for (range, name) in reserved {
        if pool.cidr.overlaps(range) {
            faults.push(format!("spec.cidr {} overlaps the {name} range {range}", pool.cidr));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pool(spec: &Value) -> Value {
        json!({"kind": "IPPool", "apiVersion": API_VERSION, "metadata": {"name": "calico"}, "spec": spec})
    }

    #[test]
    fn reads_one_an_array_and_a_list() {
        let pool = pool(&json!({"cidr": "10.1.0.0/16", "vxlanMode": "Always", "natOutgoing": true}));
        let profile = json!({"kind": "Profile", "apiVersion": API_VERSION, "metadata": {"name": "calico"},
            "spec": {"ingress": [{"action": "Allow"}], "egress": [{"action": "Allow"}]}});
        assert!(matches!(parse(&pool.to_string()).unwrap()[..], [Document::Pool(_)]));
        let both = json!([pool, profile]);
        assert_eq!(parse(&both.to_string()).unwrap().len(), 2);
        let list = json!({"kind": "List", "items": both});
        assert!(matches!(parse(&list.to_string()).unwrap()[..], [Document::Pool(_), Document::Profile(_)]));
    }

    #[test]
    fn refuses_pools_that_break_a_rule() {
        for (spec, word) in [
            (json!({}), "cidr"),
            (json!({"cidr": "10.1.0.1/16"}), "10.1.0.0/16"),
            (json!({"cidr": "10.1.0.0/16", "blockSize": 19}), "blockSize"),
            (json!({"cidr": "10.1.0.0/16", "blockSize": 33}), "blockSize"),
            (json!({"cidr": "10.1.0.0/28"}), "smaller"),
            (json!({"cidr": "10.1.0.0/16", "ipipMode": "Always", "vxlanMode": "CrossSubnet"}), "both"),
            (json!({"cidr": "10.1.0.0/16", "ipipMode": "Sometimes"}), "Sometimes"),
            (json!({"cidr": "10.1.0.0/16", "nat": true}), "nat"),
            (json!({"cidr": "127.0.0.0/16"}), "loopback"),
            (json!({"cidr": "169.254.0.0/20"}), "link-local"),
            (json!({"cidr": "10.1.0.0/16", "nodeSelector": "has(x)"}), "has(x)"),
        ] {
            let error = parse(&pool(&spec).to_string()).unwrap_err().to_string();
            assert!(error.contains(word), "{spec}: {error}");
        }
    }

    #[test]
    fn refuses_other_documents() {
        let wrong = |change: fn(&mut Value)| {
            let mut document = pool(&json!({"cidr": "10.1.0.0/16"}));
            change(&mut document);
            parse(&document.to_string()).unwrap_err().to_string()
        };
        assert!(wrong(|document| document["kind"] = json!("ipPool")).contains("ipPool"));
        assert!(wrong(|document| document["apiVersion"] = json!("v1")).contains("v1"));
        assert!(wrong(|document| document["metadata"]["name"] = json!("Calico")).contains("Calico"));
        assert!(wrong(|document| document["metadata"]["annotations"] = json!({})).contains("annotations"));
        assert!(wrong(|document| document["metadata"]["namespace"] = json!("x")).contains("namespace"));
        assert!(parse("kind: IPPool").unwrap_err().to_string().contains("YAML"));
        assert!(matches!(parse("[]"), Err(DocumentError::Empty)));
        assert!(matches!(parse(r#"{"kind":"List"}"#), Err(DocumentError::Empty)));
    }
}
