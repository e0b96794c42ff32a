//! The CNI plugins, versions 0.1.0 and 0.2.0 of its specification, as Mesos' isolator calls them.

pub mod calico;
mod config;
mod invocation;
pub mod ipam;
pub mod wiring;

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use config::{IpamConfig, NODE_NAME_RULE, NODENAME_FILE, NetworkConfig, valid_node_name};
pub use invocation::{Action, Invocation};

use crate::datastore::{DatastoreError, Etcd};
use crate::ipam::IpamError;

/// Versions of the specification that are spoken.
pub const VERSIONS: [&str; 2] = ["0.1.0", "0.2.0"];
/// How long a plugin waits for etcd.
const DATASTORE_LIMIT: Duration = Duration::from_secs(5);

/// The error codes of the specification, and one of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// The configuration's `cniVersion` is not spoken.
    IncompatibleVersion = 1,
    /// The container or its network namespace is not there.
    UnknownContainer = 3,
    /// `CNI_…` variables are missing or wrong.
    InvalidEnvironment = 4,
    /// A file, program or interface failed.
    Io = 5,
    /// The standard input is not JSON.
    Decoding = 6,
    /// The network configuration is wrong.
    InvalidConfig = 7,
    /// It may work later.
    TryAgain = 11,
    /// Calico's datastore failed or lacks something.
    Datastore = 100,
}

/// An error as the specification words it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{msg}: {details}")]
pub struct CniError {
    /// One of [`Code`], or another plugin's.
    pub code: u32,
    /// What failed.
    pub msg: String,
    /// Why.
    #[serde(default)]
    pub details: String,
}

impl CniError {
    /// An error that says what failed and why.
    pub fn new(code: Code, msg: &str, details: &(impl ToString + ?Sized)) -> Self {
        Self { code: code as u32, msg: msg.to_owned(), details: details.to_string() }
    }
}

impl From<DatastoreError> for CniError {
    fn from(error: DatastoreError) -> Self {
        let code = match error {
            DatastoreError::Settings(_) => Code::InvalidConfig,
            DatastoreError::Unreachable { .. } => Code::TryAgain,
            DatastoreError::Malformed { .. } => Code::Datastore,
        };
        Self::new(code, "Calico's datastore failed", &error)
    }
}

impl From<IpamError> for CniError {
    fn from(error: IpamError) -> Self {
        match error {
            IpamError::Datastore(error) => error.into(),
            other => Self::new(Code::Datastore, "no address can be given", &other),
        }
    }
}

/// The result of ADD in the two versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddResult {
    /// The version of the configuration.
    pub cni_version: String,
    /// The address.
    pub ip4: Ip4,
}

/// An address of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ip4 {
    /// `address/length`; of Calico always `/32`.
    pub ip: crate::cidr::Cidr,
}

/// A call with everything checked.
pub struct Call {
    /// The environment.
    pub invocation: Invocation,
    /// The standard input, understood.
    pub config: NetworkConfig,
    /// The standard input as it came, for a delegated plugin.
    pub stdin: Vec<u8>,
}

impl Call {
    /// Connects to the datastore of the configuration.
    pub async fn datastore(&self) -> Result<Etcd, CniError> {
        Ok(Etcd::connect(&self.config.datastore()?, DATASTORE_LIMIT).await?)
    }

    /// The name of the addresses of this container on this network.
    pub fn handle(&self) -> String {
        format!("{}.{}", self.config.name, self.invocation.container_id)
    }
}

/// What a plugin does.
#[expect(async_fn_in_trait, reason = "only used here, on one thread")]
pub trait Plugin {
    /// Its file name.
    const NAME: &str;
    /// Connects the container.
    async fn add(&self, call: &Call) -> Result<AddResult, CniError>;
    /// Takes everything back; also when little or nothing is there.
    async fn del(&self, call: &Call) -> Result<(), CniError>;
    /// Whether everything is as ADD left it.
    async fn check(&self, call: &Call) -> Result<(), CniError>;
}

/// The whole program: environment and standard input to result and exit code.
pub async fn main<P: Plugin>(plugin: P) -> ExitCode {
    if let Some(argument) = std::env::args().nth(1) {
        return describe(P::NAME, &argument);
    }
    let mut stdin = Vec::new();
    let outcome = match std::io::stdin().read_to_end(&mut stdin) {
        Ok(_) => run(&plugin, stdin).await,
        Err(error) => {
            let error = CniError::new(Code::Io, "cannot read the standard input", &error);
            Err((VERSIONS[0].to_owned(), error))
        }
    };
    match outcome {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(result)) => {
            println!("{result}");
            ExitCode::SUCCESS
        }
        Err((version, error)) => {
            let CniError { code, msg, details } = error;
            println!("{}", json!({"cniVersion": version, "code": code, "msg": msg, "details": details}));
            ExitCode::FAILURE
        }
    }
}

fn describe(name: &str, argument: &str) -> ExitCode {
    match argument {
        "--version" | "-v" => println!("{}", crate::about(name)),
        "--help" | "-h" => println!(
            "{}\n\nA CNI plugin: reads a network configuration from standard input and CNI_COMMAND,\n\
             CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME and CNI_PATH from the environment.",
            crate::about(name)
        ),
        other => {
            eprintln!("{name}: unknown argument {other:?}; a CNI plugin takes --help or --version only");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// An error keeps the configuration's version, for it must be repeated.
async fn run<P: Plugin>(plugin: &P, stdin: Vec<u8>) -> Result<Option<Value>, (String, CniError)> {
    let version = config::version_of(&stdin);
    let failed = |error| (version.clone(), error);
    let invocation = Invocation::parse(&|name| std::env::var(name).ok()).map_err(failed)?;
    if invocation.action == Action::Version {
        return Ok(Some(json!({"cniVersion": VERSIONS[1], "supportedVersions": VERSIONS})));
    }
    let config = NetworkConfig::parse(&stdin).map_err(failed)?;
    let call = Call { invocation, config, stdin };
    match call.invocation.action {
        Action::Add => {
            let result = plugin.add(&call).await.map_err(failed)?;
            Ok(Some(json!(result)))
        }
        Action::Del => plugin.del(&call).await.map(|()| None).map_err(failed),
        Action::Check => plugin.check(&call).await.map(|()| None).map_err(failed),
        Action::Version => Ok(None),
    }
}
