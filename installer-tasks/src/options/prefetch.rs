//! `prefetch`.

use clap::Args;

use super::DockerOptions;
use crate::values::Artifact;

/// `prefetch`.
#[derive(Debug, Clone, Args)]
pub struct PrefetchOptions {
    /// An artifact whose hash is to be checked: PATH#sha256=HEX; can be given several times.
    #[arg(long)]
    pub artifact: Vec<Artifact>,
    /// An image that is pulled where it is absent; can be given several times.
    #[arg(long)]
    pub image: Vec<String>,
    /// A registry that images are pulled through: HOST[:PORT].
    #[arg(long, env = "CALICO_REGISTRY_MIRROR", value_name = "HOST[:PORT]")]
    pub registry_mirror: Option<String>,
    /// Docker.
    #[command(flatten)]
    pub docker: DockerOptions,
}
