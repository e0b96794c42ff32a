//! `etcd-proxy`.

use clap::Args;

use super::EtcdOptions;
use crate::values::Artifact;

/// `etcd-proxy run`.
#[derive(Debug, Clone, Args)]
pub struct EtcdProxyOptions {
    /// Which etcd.
    #[command(flatten)]
    pub etcd: EtcdOptions,
    /// The program `etcd`, or a .tar.gz that holds it: PATH#sha256=HEX.
    #[arg(long, env = "CALICO_ARTIFACTS_ETCD")]
    pub artifacts_etcd: Artifact,
}
