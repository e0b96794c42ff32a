//! `prefetch`.

use clap::Args;

use super::{DockerOptions, RegistryOptions};
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
    /// Where images come from.
    #[command(flatten)]
    pub registry: RegistryOptions,
    /// Docker.
    #[command(flatten)]
    pub docker: DockerOptions,
}
