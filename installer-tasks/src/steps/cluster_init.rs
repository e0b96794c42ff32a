//! `cluster-init`: the network's pool and its profile, once in the cluster, through calicoctl.
//!
//! They are made on the first install only: what is there already belongs to the operator.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio_rustls::TlsConnector;

use crate::exit::{Exit, Failure, Result};
use crate::host::{artifact, etcd, process};
use crate::options::{ClusterInitOptions, EtcdClient, EtcdPlace, EtcdTls};
use crate::say;
use crate::steps::etcd_tls;
use crate::steps::model::{Applied, Report};
use crate::values::{Cidr, Encapsulation, NetworkName, NodeProfile};

mod v2;

/// The step's name.
pub const NAME: &str = "cluster-init";
/// How long one run of calicoctl may take.
const CALICOCTL_LIMIT: Duration = Duration::from_secs(30);

/// A pool as far as we compare it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PoolSpec {
    cidr: String,
    #[serde(default = "default_block_size")]
    block_size: u8,
    #[serde(default = "never")]
    ipip_mode: String,
    #[serde(default = "never")]
    vxlan_mode: String,
    #[serde(default)]
    nat_outgoing: bool,
}

fn default_block_size() -> u8 {
    26
}

fn never() -> String {
    "Never".to_owned()
}

impl PoolSpec {
    fn wanted(options: &ClusterInitOptions, encapsulation: Encapsulation) -> Self {
        let mode = |it| if encapsulation == it { "Always".to_owned() } else { never() };
        Self {
            cidr: options.network_pool_cidr.to_string(),
            block_size: options.network_block_size,
            ipip_mode: mode(Encapsulation::Ipip),
            vxlan_mode: mode(Encapsulation::Vxlan),
            nat_outgoing: options.network_nat_outgoing,
        }
    }

    /// What differs from `wanted`, in words; an unset mode is `Never`.
    fn differences(&self, wanted: &Self) -> Vec<String> {
        let fields = [
            ("cidr", self.cidr.clone(), wanted.cidr.clone()),
            ("blockSize", self.block_size.to_string(), wanted.block_size.to_string()),
            ("ipipMode", mode(&self.ipip_mode), mode(&wanted.ipip_mode)),
            ("vxlanMode", mode(&self.vxlan_mode), mode(&wanted.vxlan_mode)),
            ("natOutgoing", self.nat_outgoing.to_string(), wanted.nat_outgoing.to_string()),
        ];
        let differs = |(name, is, wanted): (&str, String, String)| {
            (is != wanted).then(|| format!("{name} is {is}, and {wanted} is configured"))
        };
        fields.into_iter().filter_map(differs).collect()
    }
}

fn mode(text: &str) -> String {
    if text.is_empty() { never() } else { text.to_owned() }
}

/// A resource of Calico's, as far as we read it.
#[derive(Debug, Clone, Deserialize)]
struct Resource<S> {
    metadata: Metadata,
    spec: S,
}

#[derive(Debug, Clone, Deserialize)]
struct Metadata {
    name: String,
}

/// What is to be done about the pool.
#[derive(Debug, PartialEq, Eq)]
enum PoolAction {
    Create,
    Leave(String),
}

fn pool_name(network: &NetworkName) -> String {
    format!("{network}-ipv4-ippool")
}

fn decide(pools: &[Resource<PoolSpec>], wanted: &PoolSpec, name: &str) -> Result<PoolAction> {
    let same = pools.iter().find(|pool| pool.spec.cidr == wanted.cidr || pool.metadata.name == name);
    let Some(pool) = same else { return Ok(PoolAction::Create) };
    let differences = pool.spec.differences(wanted);
    if differences.is_empty() {
        return Ok(PoolAction::Leave(pool.metadata.name.clone()));
    }
    Err(Failure::unsuitable(format!(
        "the pool {} is there already and differs: {}; it is left as it is: change the configuration, or the pool with \
         calicoctl",
        pool.metadata.name,
        differences.join("; ")
    )))
}

fn pool(name: &str, spec: &PoolSpec) -> Value {
    json!({
        "apiVersion": "projectcalico.org/v3",
        "kind": "IPPool",
        "metadata": { "name": name },
        "spec": {
            "cidr": spec.cidr,
            "blockSize": spec.block_size,
            "ipipMode": spec.ipip_mode,
            "vxlanMode": spec.vxlan_mode,
            "natOutgoing": spec.nat_outgoing,
        },
    })
}

fn profile(name: &str) -> Value {
    json!({
        "apiVersion": "projectcalico.org/v3",
        "kind": "Profile",
        "metadata": { "name": name },
        "spec": { "ingress": [{ "action": "Allow" }], "egress": [{ "action": "Allow" }] },
    })
}

/// The resources in an answer of calicoctl: a list's items, an array, or a single one.
fn resources<R: for<'de> Deserialize<'de>>(answer: &[u8]) -> serde_json::Result<Vec<R>> {
    let mut answer: Value = serde_json::from_slice(answer)?;
    let items = match answer.get_mut("items").map(Value::take) {
        Some(Value::Null) => Vec::new(),
        Some(items) => return serde_json::from_value(items),
        None if answer.is_array() => return serde_json::from_value(answer),
        None => vec![serde_json::from_value(answer)?],
    };
    Ok(items)
}

/// A block must fit into its pool, and be one that this line of Calico can make.
fn check_sizes(pool: Cidr, block_size: u8, profile: NodeProfile) -> Result<()> {
    if profile == NodeProfile::V26 && block_size != default_block_size() {
        return Err(Failure::unsuitable(format!(
            "--network-block-size {block_size}: Calico v2.6 (--node-profile) has blocks of {} only",
            default_block_size()
        )));
    }
    if block_size >= pool.prefix {
        return Ok(());
    }
    Err(Failure::unsuitable(format!(
        "--network-block-size {block_size} is larger than the pool --network-pool-cidr {pool}: it must be at least {}",
        pool.prefix
    )))
}

/// What is missing in the datastore.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Missing {
    Pool { name: String, spec: PoolSpec },
    Profile { name: String },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool { name, spec } => write!(f, "create the pool {name} ({}): it is missing", spec.cidr),
            Self::Profile { name } => write!(f, "create the profile {name}: it is missing"),
        }
    }
}

impl Missing {
    fn resource(&self, calico: NodeProfile) -> Value {
        match (self, calico) {
            (Self::Pool { name, spec }, NodeProfile::V3) => pool(name, spec),
            (Self::Pool { spec, .. }, NodeProfile::V26) => v2::pool(spec),
            (Self::Profile { name }, NodeProfile::V3) => profile(name),
            (Self::Profile { name }, NodeProfile::V26) => v2::profile(name),
        }
    }
}

/// The verified calicoctl, once the datastore is seen to be there.
async fn prepare(options: &ClusterInitOptions) -> Result<Calicoctl> {
    let profile = options.line.node_profile;
    check_sizes(options.network_pool_cidr, options.network_block_size, profile)?;
    let encapsulation = options.line.encapsulation()?;
    let program = artifact::program(&options.artifacts_calicoctl, "calicoctl")?;
    let etcd = options.etcd.client()?;
    if profile == NodeProfile::V26 {
        // It does not look for SRV records yet.
        etcd.endpoints()?;
    }
    let tls = etcd.tls.as_ref().map(etcd_tls::connector).transpose()?;
    let calicoctl = Calicoctl { program, etcd, tls, profile, encapsulation };
    calicoctl.check_datastore().await?;
    Ok(calicoctl)
}

async fn survey(options: &ClusterInitOptions, calicoctl: &Calicoctl) -> Result<Vec<Missing>> {
    let network = &options.network_name;
    let mut missing = Vec::new();
    let spec = PoolSpec::wanted(options, calicoctl.encapsulation);
    let name = pool_name(network);
    if decide(&calicoctl.pools().await?, &spec, &name)? == PoolAction::Create {
        missing.push(Missing::Pool { name, spec });
    }
    if !calicoctl.has_profile(network).await? {
        missing.push(Missing::Profile { name: network.to_string() });
    }
    Ok(missing)
}

/// Says what `apply` would make; changes nothing in the datastore.
pub async fn check(options: &ClusterInitOptions) -> Result<Report> {
    let calicoctl = prepare(options).await?;
    Ok(Report::of_missing(NAME, &survey(options, &calicoctl).await?))
}

/// Makes the pool and the profile where they are missing, and reads them back.
pub async fn apply(options: &ClusterInitOptions) -> Result<Applied> {
    let calicoctl = prepare(options).await?;
    let missing = survey(options, &calicoctl).await?;
    for it in &missing {
        say::progress(it);
        calicoctl.create(&it.resource(calicoctl.profile)).await?;
    }
    match survey(options, &calicoctl).await?.first() {
        None => Ok(Applied::of_done(NAME, &missing)),
        Some(it) => Err(Failure::new(Exit::TryAgain, format!("not read back after it was done: {it}"))),
    }
}

/// The verified calicoctl.
struct Calicoctl {
    program: PathBuf,
    etcd: EtcdClient,
    tls: Option<TlsConnector>,
    profile: NodeProfile,
    encapsulation: Encapsulation,
}

impl Calicoctl {
    /// Fails when no member answers. Members that are only told by SRV records are calicoctl's to find.
    async fn check_datastore(&self) -> Result<()> {
        match &self.etcd.place {
            EtcdPlace::Endpoints(members) => etcd::check_members(members, self.tls.as_ref()).await,
            EtcdPlace::Srv(_) => Ok(()),
        }
    }

    /// The variables in which calicoctl is told of the datastore.
    fn environment(&self) -> Vec<(&'static str, OsString)> {
        let (variable, place) = self.etcd.variable();
        let files = self.etcd.tls.iter().flat_map(EtcdTls::files);
        let files = files.map(|(what, file)| (what.variable(), file.path.clone().into()));
        let datastore = match self.profile {
            NodeProfile::V3 => "etcdv3",
            NodeProfile::V26 => "etcdv2",
        };
        [("DATASTORE_TYPE", datastore.into()), (variable, place.into())].into_iter().chain(files).collect()
    }

    async fn get<R: for<'de> Deserialize<'de>>(&self, kind: &str) -> Result<Vec<R>> {
        let answer = self.run(&["get", kind, "-o", "json"], b"").await?;
        resources(&answer).map_err(|error| {
            Failure::unsuitable(format!(
                "`calicoctl get {kind} -o json` answers something else than expected"
            ))
            .because(error)
        })
    }

    async fn pools(&self) -> Result<Vec<Resource<PoolSpec>>> {
        match self.profile {
            NodeProfile::V3 => self.get("ippools").await,
            NodeProfile::V26 => {
                let pools: Vec<v2::Pool> = self.get(v2::POOLS).await?;
                Ok(pools.into_iter().map(Into::into).collect())
            }
        }
    }

    async fn has_profile(&self, network: &NetworkName) -> Result<bool> {
        let kind = match self.profile {
            NodeProfile::V3 => "profiles",
            NodeProfile::V26 => v2::PROFILES,
        };
        let profiles: Vec<Resource<Value>> = self.get(kind).await?;
        Ok(profiles.iter().any(|profile| profile.metadata.name == network.as_str()))
    }

    async fn create(&self, resource: &Value) -> Result<()> {
        self.run(&["create", "-f", "-"], resource.to_string().as_bytes()).await.map(drop)
    }

    async fn run(&self, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>> {
        let shown = format!("`calicoctl {}`", arguments.join(" "));
        let mut command = Command::new(&self.program);
        command.args(arguments).envs(self.environment());
        let ran = process::run(&mut command, input, CALICOCTL_LIMIT).await.map_err(|error| {
            Failure::unsuitable(format!(
                "cannot run {}: is it calicoctl for this machine?",
                self.program.display()
            ))
            .because(error)
        })?;
        match ran {
            Some(ran) if ran.success => Ok(ran.stdout),
            Some(ran) => {
                // When the datastore is away, that is the reason, whatever calicoctl says of it.
                self.check_datastore().await?;
                Err(Failure::new(Exit::TryAgain, format!("{shown} failed: {}", ran.complaint)))
            }
            None => {
                self.check_datastore().await?;
                Err(Failure::new(
                    Exit::Unavailable,
                    format!("{shown} took longer than {} s", CALICOCTL_LIMIT.as_secs()),
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arbitrary;
    use crate::cli::{Cli, ClusterInitCommand, Command};

    fn wanted() -> PoolSpec {
        PoolSpec {
            cidr: "192.168.0.0/16".into(),
            block_size: 26,
            ipip_mode: never(),
            vxlan_mode: "Always".into(),
            nat_outgoing: true,
        }
    }

    fn existing(name: &str, change: impl FnOnce(&mut PoolSpec)) -> Vec<Resource<PoolSpec>> {
        let mut spec = wanted();
        change(&mut spec);
        vec![Resource { metadata: Metadata { name: name.into() }, spec }]
    }

    #[test]
    fn a_pool_that_is_there_is_left() {
        let name = "calico-ipv4-ippool";
        assert_eq!(decide(&[], &wanted(), name).unwrap(), PoolAction::Create);
        assert_eq!(decide(&existing(name, |_| ()), &wanted(), name).unwrap(), PoolAction::Leave(name.into()));
        let theirs = existing("theirs", |pool| pool.ipip_mode.clear());
        assert_eq!(decide(&theirs, &wanted(), name).unwrap(), PoolAction::Leave("theirs".into()));
        let elsewhere = existing("theirs", |pool| pool.cidr = "10.0.0.0/8".into());
        assert_eq!(decide(&elsewhere, &wanted(), name).unwrap(), PoolAction::Create);
    }

    #[test]
    fn a_pool_that_differs_is_named_with_every_difference() {
        let pools = existing("theirs", |pool| {
            pool.block_size = 24;
            pool.nat_outgoing = false;
        });
        let failure = decide(&pools, &wanted(), "ours").unwrap_err();
        assert_eq!(failure.exit(), Exit::Unsuitable);
        let text = failure.to_string();
        for words in ["theirs", "blockSize is 24", "natOutgoing is false"] {
            assert!(text.contains(words), "{text}");
        }
        let renamed = existing("ours", |pool| pool.cidr = "10.0.0.0/8".into());
        assert!(decide(&renamed, &wanted(), "ours").unwrap_err().to_string().contains("cidr is 10.0.0.0/8"));
    }

    #[test]
    fn every_form_of_answer_is_read() {
        let one = r#"{"kind":"IPPool","metadata":{"name":"a"},"spec":{"cidr":"10.0.0.0/8"}}"#;
        for (answer, count) in [
            (one.to_owned(), 1),
            (format!("[{one},{one}]"), 2),
            (format!(r#"{{"kind":"IPPoolList","items":[{one}]}}"#), 1),
            (r#"{"kind":"IPPoolList","items":[]}"#.to_owned(), 0),
            (r#"{"kind":"IPPoolList","items":null}"#.to_owned(), 0),
        ] {
            assert_eq!(resources::<Resource<PoolSpec>>(answer.as_bytes()).unwrap().len(), count, "{answer}");
        }
        assert!(resources::<Resource<PoolSpec>>(b"none").is_err());
    }

    proptest::proptest! {
        /// What is made is what was asked for; read back, nothing is left to do, and with another option it is told.
        #[test]
        fn every_pool_and_profile_is_made_as_it_was_asked_for_and_found_again(
            network in arbitrary::networks(),
            pool in arbitrary::cidrs(26),
            block_size in 26_u8..=32,
            (profile, encapsulation) in arbitrary::lines(),
            nat: bool,
        ) {
            let block_size = if profile == NodeProfile::V26 { default_block_size() } else { block_size };
            let text = format!(
                "calico-installer cluster-init check --network-name {network} --network-pool-cidr {pool} --network-block-size \
                 {block_size} --node-profile {} --network-encapsulation {} --network-nat-outgoing={nat} --etcd-endpoints \
                 http://a:1 --artifacts-calicoctl /c#sha256={}",
                profile.name(), encapsulation.name(), "0".repeat(64)
            );
            let Command::ClusterInit(ClusterInitCommand::Check(options)) =
                Cli::try_parse_from(text.split_whitespace()).unwrap().command else { panic!("{text}") };
            check_sizes(options.network_pool_cidr, options.network_block_size, profile).unwrap();
            let (spec, name) = (PoolSpec::wanted(&options, encapsulation), pool_name(&network));
            let of_pool = Missing::Pool { name: name.clone(), spec: spec.clone() }.resource(profile);
            let of_profile = Missing::Profile { name: network.to_string() }.resource(profile);
            for (document, kind) in [(&of_pool, "IPPool"), (&of_profile, "Profile")] {
                let is_kind = document["kind"].as_str().is_some_and(|it| it.eq_ignore_ascii_case(kind));
                let version = if profile == NodeProfile::V3 { "projectcalico.org/v3" } else { "v1" };
                assert!(is_kind && document["apiVersion"] == version, "{document}");
                assert_eq!(serde_json::from_str::<Value>(&document.to_string()).unwrap(), *document);
                assert_no_empty_value(document);
            }
            // Calico's names are of DNS: 253 at most.
            assert_eq!(of_profile["metadata"]["name"], network.as_str());
            assert!(name.len() <= 253 && of_pool.to_string().contains(&pool.to_string()));
            let found: Resource<PoolSpec> = match profile {
                NodeProfile::V3 => serde_json::from_value(of_pool.clone()).unwrap(),
                NodeProfile::V26 => serde_json::from_value::<v2::Pool>(of_pool.clone()).unwrap().into(),
            };
            assert_eq!(found.spec, spec, "{of_pool}");
            let left = PoolAction::Leave(found.metadata.name.clone());
            assert_eq!(decide(std::slice::from_ref(&found), &spec, &name).unwrap(), left);
            let other = PoolSpec { nat_outgoing: !nat, ..spec };
            assert!(decide(&[found], &other, &name).unwrap_err().to_string().contains("natOutgoing"));
        }
    }

    fn assert_no_empty_value(document: &Value) {
        match document {
            Value::Object(fields) => fields.values().for_each(assert_no_empty_value),
            Value::Array(items) => items.iter().for_each(assert_no_empty_value),
            value => assert!(!value.is_null() && value != "", "{value}"),
        }
    }

    #[test]
    fn a_block_fits_into_its_pool() {
        let check = |pool: &str, block_size, profile| check_sizes(pool.parse().unwrap(), block_size, profile);
        assert!(check("10.0.0.0/26", 26, NodeProfile::V3).is_ok());
        assert!(check("10.0.0.0/27", 26, NodeProfile::V3).is_err());
        assert!(check("10.0.0.0/16", 28, NodeProfile::V3).is_ok());
        let failure = check("10.0.0.0/16", 28, NodeProfile::V26).unwrap_err();
        assert!(failure.to_string().contains("blocks of 26 only"), "{failure}");
    }
}
