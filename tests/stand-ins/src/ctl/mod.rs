//! `calicoctl`: pools, profiles and policies in the datastore.

mod document;

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};
use thiserror::Error;

pub use document::{Document, DocumentError, parse};

use crate::datastore::{DatastoreError, Entry, Etcd, Expect, Settings, Store, Tls, Write};
use crate::resources::{self, IpPoolSpec, Resource};

/// How long to wait for etcd.
const DATASTORE_LIMIT: Duration = Duration::from_secs(6);

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "calicoctl",
    version = concat!("stand-in ", env!("CARGO_PKG_VERSION"), " (calico-dcos; this is not Calico)"),
    about = "Stand-in for calicoctl: writes IP pools, profiles and policies to etcd. This is not Calico."
)]
pub struct Cli {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    datastore: DatastoreArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Creates the resources of a file, or replaces them when they exist.
    Apply(FileArgs),
    /// Creates the resources of a file; fails when one exists.
    Create(FileArgs),
    /// Shows resources.
    Get(GetArgs),
}

#[derive(Debug, Args)]
struct FileArgs {
    /// A JSON file; - is the standard input.
    #[arg(short, long)]
    filename: PathBuf,
}

#[derive(Debug, Args)]
struct GetArgs {
    /// The kind.
    #[arg(value_enum, ignore_case = true)]
    kind: Kind,
    /// One of them; all when missing.
    name: Option<String>,
    /// The form.
    #[arg(short, long, value_enum, default_value_t = Output::Ps)]
    output: Output,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    #[value(aliases = ["ippools", "pool", "pools"])]
    Ippool,
    #[value(alias = "profiles")]
    Profile,
    #[value(alias = "nodes")]
    Node,
    #[value(aliases = ["globalnetworkpolicies", "gnp", "gnps"])]
    Globalnetworkpolicy,
    #[value(aliases = ["workloadendpoints", "wep", "weps"])]
    Workloadendpoint,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    /// A table.
    Ps,
    /// JSON; of one resource itself, of several a List.
    Json,
}

/// From the environment only, as for calicoctl; checked by [`DatastoreArgs::settings`], which can name the variables.
#[derive(Debug, Args)]
struct DatastoreArgs {
    #[arg(env = "DATASTORE_TYPE", long = "datastore-type", hide = true)]
    kind: Option<String>,
    #[arg(env = "ETCD_ENDPOINTS", long = "etcd-endpoints", hide = true)]
    endpoints: Option<String>,
    #[arg(env = "ETCD_CA_CERT_FILE", long = "etcd-ca-cert-file", hide = true)]
    ca: Option<PathBuf>,
    #[arg(env = "ETCD_CERT_FILE", long = "etcd-cert-file", hide = true)]
    cert: Option<PathBuf>,
    #[arg(env = "ETCD_KEY_FILE", long = "etcd-key-file", hide = true)]
    key: Option<PathBuf>,
}

impl DatastoreArgs {
    fn settings(self) -> Result<Settings, DatastoreError> {
        let Self { kind, endpoints, ca, cert, key } = self;
        if kind.as_deref() != Some("etcdv3") {
            let found = kind.map_or("missing".to_owned(), |kind| format!("{kind:?}"));
            return Err(DatastoreError::Settings(format!("DATASTORE_TYPE is {found}; expected etcdv3")));
        }
        let endpoints =
            endpoints.ok_or_else(|| DatastoreError::Settings("ETCD_ENDPOINTS is missing".to_owned()))?;
        Settings::parse(&endpoints, Tls { ca, cert, key })
    }
}

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CtlError {
    /// The file cannot be read.
    #[error("failed to read {path}: {source}")]
    Read {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What is in the file.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The datastore.
    #[error(transparent)]
    Datastore(#[from] DatastoreError),
    /// `create` of something that is there.
    #[error("resource already exists: {0}")]
    Exists(String),
    /// `get` of something that is not there.
    #[error("resource does not exist: {0}")]
    Missing(String),
    /// Somebody else changed it.
    #[error("update conflict: {0} was changed by someone else")]
    Conflict(String),
    /// The pool cannot be what is asked.
    #[error("IPPool({name}): {reason}")]
    Pool {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
}

/// Runs a command and returns what it prints.
pub async fn run(cli: Cli) -> Result<String, CtlError> {
    let settings = cli.datastore.settings()?;
    let connect = || Etcd::connect(&settings, DATASTORE_LIMIT);
    match cli.action {
        Action::Apply(file) => {
            let documents = read(&file)?;
            apply(&connect().await?, documents, false).await
        }
        Action::Create(file) => {
            let documents = read(&file)?;
            apply(&connect().await?, documents, true).await
        }
        Action::Get(what) => get(&connect().await?, &what).await,
    }
}

fn read(file: &FileArgs) -> Result<Vec<Document>, CtlError> {
    let path = &file.filename;
    let text = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.map_err(|source| CtlError::Read { path: path.clone(), source })?;
    Ok(parse(&text)?)
}

/// Writes one resource after the other, as calicoctl does: those before a failure stay.
async fn apply<S: Store>(store: &S, documents: Vec<Document>, create: bool) -> Result<String, CtlError> {
    let count = documents.len();
    for document in documents {
        match document {
            Document::Pool(pool) => {
                check_against_others(store, &pool).await?;
                write(store, resources::POOLS, pool, create).await?;
            }
            Document::Profile(profile) => write(store, resources::PROFILES, profile, create).await?,
            Document::Policy(policy) => write(store, resources::POLICIES, policy, create).await?,
        }
    }
    Ok(format!("Successfully {} {count} resource(s)", if create { "created" } else { "applied" }))
}

async fn write<S: Store, T: Serialize>(
    store: &S,
    prefix: &str,
    mut resource: Resource<T>,
    create: bool,
) -> Result<(), CtlError> {
    let name = format!("{}({})", resource.kind, resource.metadata.name);
    let key = format!("{prefix}{}", resource.metadata.name);
    let existing = store.get(&key).await?;
    if create && existing.is_some() {
        return Err(CtlError::Exists(name));
    }
    let stale =
        |version: &String| existing.as_ref().is_none_or(|entry| *version != entry.revision.to_string());
    if resource.metadata.resource_version.take().as_ref().is_some_and(stale) {
        return Err(CtlError::Conflict(name));
    }
    let write = Write::json(key, Expect::unchanged(existing.as_ref()), &resource)?;
    if store.commit(vec![write]).await? {
        return Ok(());
    }
    Err(if create { CtlError::Exists(name) } else { CtlError::Conflict(name) })
}

/// A pool keeps its CIDR and block size, and shares no address with another pool.
async fn check_against_others<S: Store>(store: &S, pool: &Resource<IpPoolSpec>) -> Result<(), CtlError> {
    let refuse = |reason| Err(CtlError::Pool { name: pool.metadata.name.clone(), reason });
    for entry in store.list(resources::POOLS).await? {
        let other: Resource<IpPoolSpec> = entry.json()?;
        if other.metadata.name == pool.metadata.name {
            if other.spec.cidr != pool.spec.cidr {
                return refuse(format!("spec.cidr cannot be changed from {}", other.spec.cidr));
            }
            if other.spec.block_size != pool.spec.block_size {
                return refuse(format!("spec.blockSize cannot be changed from {}", other.spec.block_size));
            }
        } else if other.spec.cidr.overlaps(pool.spec.cidr) {
            let (name, cidr) = (&other.metadata.name, other.spec.cidr);
            return refuse(format!("spec.cidr {} overlaps with IPPool({name}) {cidr}", pool.spec.cidr));
        }
    }
    Ok(())
}

async fn get<S: Store>(store: &S, what: &GetArgs) -> Result<String, CtlError> {
    let (prefix, kind) = match what.kind {
        Kind::Ippool => (resources::POOLS, "IPPool"),
        Kind::Profile => (resources::PROFILES, "Profile"),
        Kind::Node => (resources::NODES, "Node"),
        Kind::Globalnetworkpolicy => (resources::POLICIES, "GlobalNetworkPolicy"),
        Kind::Workloadendpoint => (resources::ENDPOINTS, "WorkloadEndpoint"),
    };
    let entries = match &what.name {
        Some(name) => {
            let entry = store.get(&format!("{prefix}{name}")).await?;
            vec![entry.ok_or_else(|| CtlError::Missing(format!("{kind}({name})")))?]
        }
        None => store.list(prefix).await?,
    };
    let resources: Vec<Value> = entries.iter().map(with_version).collect::<Result<_, _>>()?;
    Ok(match (what.output, what.name.is_some(), resources.as_slice()) {
        (Output::Json, true, [one]) => format!("{one:#}"),
        (Output::Json, ..) => format!("{:#}", json!({"kind": "List", "items": resources})),
        (Output::Ps, ..) => table(&resources),
    })
}

fn with_version(entry: &Entry) -> Result<Value, DatastoreError> {
    let mut resource: Value = entry.json()?;
    let Some(metadata) = resource.get_mut("metadata").and_then(Value::as_object_mut) else {
        return Err(entry.malformed(&"metadata is missing"));
    };
    metadata.insert("resourceVersion".to_owned(), entry.revision.to_string().into());
    Ok(resource)
}

fn table(resources: &[Value]) -> String {
    let mut lines = vec!["NAME".to_owned()];
    for resource in resources {
        let field = |pointer: &str| resource.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let detail = [field("/spec/cidr"), field("/spec/bgp/ipv4Address")].concat();
        lines.push(format!("{:<20} {detail}", field("/metadata/name")).trim_end().to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;

    fn pool(name: &str, spec: &Value) -> Vec<Document> {
        let pool = json!({"kind": "IPPool", "apiVersion": resources::API_VERSION,
            "metadata": {"name": name}, "spec": spec});
        parse(&pool.to_string()).unwrap()
    }

    async fn try_apply(store: &Memory, name: &str, spec: Value) -> Result<String, String> {
        apply(store, pool(name, &spec), false).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn apply_is_repeatable_and_create_is_not() {
        let store = Memory::default();
        let spec = json!({"cidr": "10.1.0.0/16"});
        assert!(apply(&store, pool("calico", &spec), true).await.is_ok());
        assert!(matches!(apply(&store, pool("calico", &spec), true).await, Err(CtlError::Exists(_))));
        assert!(
            try_apply(&store, "calico", json!({"cidr": "10.1.0.0/16", "natOutgoing": true})).await.is_ok()
        );
        let what = GetArgs { kind: Kind::Ippool, name: Some("calico".to_owned()), output: Output::Json };
        let shown: Value = serde_json::from_str(&get(&store, &what).await.unwrap()).unwrap();
        assert_eq!(shown["spec"]["natOutgoing"], true);
        assert_eq!(shown["metadata"]["resourceVersion"], "2");
    }

    #[tokio::test]
    async fn a_pool_keeps_its_addresses_to_itself() {
        let store = Memory::default();
        try_apply(&store, "one", json!({"cidr": "10.1.0.0/16"})).await.unwrap();
        let error = try_apply(&store, "two", json!({"cidr": "10.1.4.0/24"})).await.unwrap_err();
        assert!(error.contains("overlaps with IPPool(one) 10.1.0.0/16"), "{error}");
        let error = try_apply(&store, "one", json!({"cidr": "10.2.0.0/16"})).await.unwrap_err();
        assert!(error.contains("cannot be changed from 10.1.0.0/16"), "{error}");
        let error =
            try_apply(&store, "one", json!({"cidr": "10.1.0.0/16", "blockSize": 28})).await.unwrap_err();
        assert!(error.contains("blockSize"), "{error}");
        assert!(try_apply(&store, "two", json!({"cidr": "10.2.0.0/16"})).await.is_ok());
    }

    #[tokio::test]
    async fn a_stale_version_is_a_conflict() {
        let store = Memory::default();
        let mut documents = pool("calico", &json!({"cidr": "10.1.0.0/16"}));
        apply(&store, documents.clone(), false).await.unwrap();
        let Document::Pool(pool) = &mut documents[0] else { panic!("not a pool") };
        for (version, accepted) in [("7", false), ("1", true), ("1", false)] {
            pool.metadata.resource_version = Some(version.to_owned());
            let outcome = apply(&store, vec![Document::Pool(pool.clone())], false).await;
            assert_eq!(outcome.is_ok(), accepted, "version {version}: {outcome:?}");
        }
    }

    #[tokio::test]
    async fn a_missing_resource_is_named() {
        let what = GetArgs { kind: Kind::Profile, name: Some("calico".to_owned()), output: Output::Ps };
        let error = get(&Memory::default(), &what).await.unwrap_err();
        assert_eq!(error.to_string(), "resource does not exist: Profile(calico)");
    }

    #[test]
    fn the_datastore_must_be_named() {
        let settings = |kind: Option<&str>, endpoints: Option<&str>| {
            let [kind, endpoints] = [kind, endpoints].map(|value| value.map(str::to_owned));
            DatastoreArgs { kind, endpoints, ca: None, cert: None, key: None }.settings()
        };
        let etcd = Some("http://127.0.0.1:2379");
        assert!(settings(Some("etcdv3"), etcd).is_ok());
        assert!(settings(None, etcd).unwrap_err().to_string().contains("DATASTORE_TYPE is missing"));
        assert!(settings(Some("kubernetes"), etcd).unwrap_err().to_string().contains("kubernetes"));
        assert!(settings(Some("etcdv3"), None).unwrap_err().to_string().contains("ETCD_ENDPOINTS"));
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
