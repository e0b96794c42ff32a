//! The image of a service: pulled when it is absent, through a mirror when there is one.

use std::path::Path;

use crate::exit::{Exit, Failure, Result};
use crate::host::docker::{Docker, DockerError};
use crate::say;

/// An image pulled through a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mirrored {
    /// Its name at the mirror.
    source: String,
    /// Its own name without the tag.
    repository: String,
    /// Its tag.
    tag: String,
}

/// `registry/path:tag` as it is called at `mirror`; `None` for an image named by its digest, which cannot be
/// given its name again.
fn at_mirror(image: &str, mirror: &str) -> Option<Mirrored> {
    if image.contains('@') {
        return None;
    }
    let (repository, tag) = match image.rsplit_once(':') {
        // A port, not a tag.
        Some((_, tag)) if tag.contains('/') => (image, "latest"),
        Some((repository, tag)) => (repository, tag),
        None => (image, "latest"),
    };
    let path = match repository.split_once('/') {
        Some((registry, path)) if registry.contains(['.', ':']) || registry == "localhost" => path,
        _ => repository,
    };
    let source = format!("{}/{path}:{tag}", mirror.trim_end_matches('/'));
    Some(Mirrored { source, repository: repository.to_owned(), tag: tag.to_owned() })
}

/// Has the image there; says whether it was pulled.
pub(super) async fn provide(docker: &Docker, image: &str, mirror: Option<&str>) -> Result<bool, DockerError> {
    if docker.has_image(image).await? {
        return Ok(false);
    }
    let mirrored = mirror.and_then(|mirror| at_mirror(image, mirror));
    let source = mirrored.as_ref().map_or(image, |mirrored| &mirrored.source);
    say::progress(format_args!("pulling {source}"));
    docker.pull(source).await?;
    if let Some(mirrored) = &mirrored {
        docker.tag(source, &mirrored.repository, &mirrored.tag).await?;
    }
    say::result(format_args!("pulled {source}"));
    Ok(true)
}

/// Has these images there, as their services would have them.
pub async fn prefetch(socket: &Path, images: &[String], mirror: Option<&str>) -> Result<()> {
    let docker = Docker::connect(socket).await?;
    for image in images {
        if !provide(&docker, image, mirror).await.map_err(|error| unavailable(&error))? {
            say::result(format_args!("{image} is there"));
        }
    }
    Ok(())
}

/// What failed is a pull: the registry is what is missing.
pub(super) fn unavailable(error: &DockerError) -> Failure {
    Failure::new(Exit::Unavailable, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_takes_the_registry_s_place() {
        let source = |image| at_mirror(image, "mirror:5000").map(|it| (it.source, it.repository, it.tag));
        let is =
            |source: &str, repository: &str, tag: &str| Some((source.into(), repository.into(), tag.into()));
        assert_eq!(source("calico/node:v3"), is("mirror:5000/calico/node:v3", "calico/node", "v3"));
        assert_eq!(
            source("quay.io/calico/node:v3"),
            is("mirror:5000/calico/node:v3", "quay.io/calico/node", "v3")
        );
        assert_eq!(
            source("10.0.0.1:8080/node"),
            is("mirror:5000/node:latest", "10.0.0.1:8080/node", "latest")
        );
        assert_eq!(source("calico/node@sha256:00"), None);
    }
}
