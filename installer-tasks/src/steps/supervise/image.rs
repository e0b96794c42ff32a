//! The image of a service: pulled when it is absent, through a mirror when there is one.

use std::path::Path;

use crate::exit::{Exit, Failure, Result};
use crate::host::docker::{Docker, DockerError};
use crate::host::registry::{Credentials, Login, registry_of};
use crate::options::RegistryOptions;
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

/// Why an image is not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImageError {
    /// Docker did not get it.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// There is nothing to log in with.
    #[error("{0}")]
    Credentials(Failure),
}

/// Has the image there; says whether it was pulled.
pub(super) async fn provide(
    docker: &Docker,
    image: &str,
    registry: &RegistryOptions,
) -> Result<bool, ImageError> {
    if docker.has_image(image).await? {
        return Ok(false);
    }
    let mirrored = registry.mirror.as_deref().and_then(|mirror| at_mirror(image, mirror));
    let source = mirrored.as_ref().map_or(image, |mirrored| &mirrored.source);
    let login = login(source, mirrored.is_some(), registry).map_err(ImageError::Credentials)?;
    say::progress(format_args!("pulling {source}"));
    docker.pull(source, login).await?;
    if let Some(mirrored) = &mirrored {
        docker.tag(source, &mirrored.repository, &mirrored.tag).await?;
    }
    say::result(format_args!("pulled {source}"));
    Ok(true)
}

/// What the registry of `source` is logged in to with. With a mirror, one login is the mirror's, and is shown to no other.
fn login(source: &str, is_mirrored: bool, registry: &RegistryOptions) -> Result<Option<(Login, String)>> {
    let Some(file) = &registry.credentials else { return Ok(None) };
    let credentials = Credentials::read(file)?;
    if matches!(credentials, Credentials::One(_)) && registry.mirror.is_some() && !is_mirrored {
        return Ok(None);
    }
    Ok(credentials.login(registry_of(source)))
}

/// Has these images there, as their services would have them.
pub async fn prefetch(socket: &Path, images: &[String], registry: &RegistryOptions) -> Result<()> {
    let docker = Docker::connect(socket).await?;
    for image in images {
        if !provide(&docker, image, registry).await.map_err(unavailable)? {
            say::result(format_args!("{image} is there"));
        }
    }
    Ok(())
}

/// What failed is a pull: the registry is what is missing.
pub(super) fn unavailable(error: ImageError) -> Failure {
    match error {
        ImageError::Docker(error) => Failure::new(Exit::Unavailable, error.to_string()),
        ImageError::Credentials(failure) => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::PinnedFile;

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

    #[test]
    fn one_login_is_the_mirrors_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        std::fs::write(&path, "me:pw").unwrap();
        let credentials = Some(PinnedFile { path, sha256: None });
        let registry = |mirror: Option<&str>| RegistryOptions {
            mirror: mirror.map(str::to_owned),
            credentials: credentials.clone(),
        };
        let to = |source, is_mirrored, mirror| {
            login(source, is_mirrored, &registry(mirror)).unwrap().map(|(_, address)| address)
        };
        assert_eq!(to("m:5000/calico/node:v3", true, Some("m:5000")).as_deref(), Some("m:5000"));
        assert_eq!(to("quay.io/calico/node@sha256:00", false, Some("m:5000")), None);
        assert_eq!(to("quay.io/calico/node:v3", false, None).as_deref(), Some("quay.io"));
        let none = RegistryOptions { mirror: None, credentials: None };
        assert_eq!(login("quay.io/calico/node:v3", false, &none).unwrap(), None);
    }
}
