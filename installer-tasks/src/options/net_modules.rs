//! `net-modules`.

use clap::Args;

use super::{AgentUnitOptions, FindAgentOptions, RestartOptions, StateOptions, StepOptions};
use crate::values::Artifact;

/// `net-modules apply` and `net-modules check`.
#[derive(Debug, Clone, Args)]
pub struct NetModulesOptions {
    /// The library `libmesos_network_isolator.so`, built for the Mesos that runs: PATH#sha256=HEX.
    #[arg(long, env = "CALICO_ARTIFACTS_NET_MODULES")]
    pub artifacts_net_modules: Artifact,
    /// The program `calico_mesos`: PATH#sha256=HEX.
    #[arg(long, env = "CALICO_ARTIFACTS_CALICO_MESOS")]
    pub artifacts_calico_mesos: Artifact,
    /// How the agent is run.
    #[command(flatten)]
    pub unit: AgentUnitOptions,
    /// What every step takes.
    #[command(flatten)]
    pub step: StepOptions,
}

/// `net-modules undo`.
#[derive(Debug, Clone, Args)]
pub struct NetModulesUndoOptions {
    /// Go ahead although tasks use it, files were changed since, or the agent does not answer.
    #[arg(long)]
    pub force: bool,
    /// What may be restarted; without it nothing is changed while the agent has the modules loaded (exit 79).
    #[command(flatten)]
    pub restarts: RestartOptions,
    /// Which agent.
    #[command(flatten)]
    pub agent: FindAgentOptions,
    /// How it is run.
    #[command(flatten)]
    pub unit: AgentUnitOptions,
    /// Where the record is.
    #[command(flatten)]
    pub state: StateOptions,
}
