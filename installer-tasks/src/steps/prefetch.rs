//! `prefetch`: has on the host what new services need, while those of before run, so that replacing them takes no
//! download.

use crate::exit::Result;
use crate::host::artifact;
use crate::options::PrefetchOptions;
use crate::steps::supervise;

/// Checks the artifacts, which whoever runs this has fetched, and pulls the images that are absent.
pub async fn prefetch(options: &PrefetchOptions) -> Result<()> {
    for it in &options.artifact {
        artifact::verify(it)?;
        println!("{} has the hash that it should have", it.path.display());
    }
    if options.image.is_empty() {
        println!("no image is asked for: Docker is left alone");
        return Ok(());
    }
    supervise::prefetch(&options.docker.socket, &options.image, &options.registry).await
}
