//! A read-only Docker registry (API v2, image manifest schema 2) of images `FROM scratch`.

use std::collections::HashMap;
use std::io;

use serde_json::json;
use sha2::{Digest, Sha256};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// A repository with one image, and all that a client may ask for.
#[derive(Debug)]
pub(crate) struct Image {
    repository: String,
    tag: String,
    manifest: String,
    contents: HashMap<String, Content>,
}

/// Something in a repository, by digest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub media_type: &'static str,
    pub digest: String,
    pub bytes: Vec<u8>,
}

impl Content {
    fn new(media_type: &'static str, bytes: Vec<u8>) -> Self {
        Self { media_type, digest: digest(&bytes), bytes }
    }

    fn descriptor(&self) -> serde_json::Value {
        json!({"mediaType": self.media_type, "size": self.bytes.len(), "digest": self.digest})
    }
}

impl Image {
    /// An image `repository:tag` of one program, which it runs.
    pub fn of_program(repository: &str, tag: &str, name: &str, program: &[u8]) -> io::Result<Self> {
        let layer = Content::new(LAYER, tar_of(name, program)?);
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "created": "2020-06-05T00:00:00Z",
            "config": {"Entrypoint": [format!("/{name}")], "WorkingDir": "/", "Env": ["PATH=/"], "Labels": {"version": tag}},
            "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
        });
        let config = Content::new(CONFIG, serde_json::to_vec(&config)?);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(),
            "layers": [layer.descriptor()],
        });
        let manifest = Content::new(MANIFEST, serde_json::to_vec(&manifest)?);
        Ok(Self {
            repository: repository.to_owned(),
            tag: tag.to_owned(),
            manifest: manifest.digest.clone(),
            contents: [layer, config, manifest]
                .into_iter()
                .map(|content| (content.digest.clone(), content))
                .collect(),
        })
    }

    /// What a path below `/v2/` names, when it is of this repository.
    pub fn find(&self, path: &str) -> Option<&Content> {
        let rest = path.strip_prefix(&self.repository)?.strip_prefix('/')?;
        let (kind, reference) = rest.split_once('/')?;
        let digest = if kind == "manifests" && reference == self.tag { &self.manifest } else { reference };
        self.contents.get(digest).filter(|content| match kind {
            "manifests" => content.media_type == MANIFEST,
            "blobs" => content.media_type != MANIFEST,
            _ => false,
        })
    }
}

/// An archive with one executable file; the same program gives the same bytes.
fn tar_of(name: &str, program: &[u8]) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    header.set_mtime(0);
    let mut archive = tar::Builder::new(Vec::with_capacity(program.len() + 4096));
    archive.append_data(&mut header, name, program)?;
    archive.into_inner()
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        Image::of_program("calico/node", "v1", "calico-node", b"program").unwrap()
    }

    fn parsed(content: &Content) -> serde_json::Value {
        serde_json::from_slice(&content.bytes).unwrap()
    }

    #[test]
    fn everything_that_the_manifest_names_is_there_under_its_digest() {
        let image = image();
        let manifest = image.find("calico/node/manifests/v1").unwrap();
        assert_eq!(manifest, image.find(&format!("calico/node/manifests/{}", manifest.digest)).unwrap());
        let fields = parsed(manifest);
        for descriptor in [&fields["config"], &fields["layers"][0]] {
            let named = descriptor["digest"].as_str().unwrap();
            let blob = image.find(&format!("calico/node/blobs/{named}")).unwrap();
            assert_eq!(digest(&blob.bytes), named);
            assert_eq!(descriptor["size"], blob.bytes.len());
            assert_eq!(descriptor["mediaType"], blob.media_type);
        }
    }

    #[test]
    fn the_configuration_runs_the_program_of_the_layer() {
        let image = image();
        let fields = parsed(image.find("calico/node/manifests/v1").unwrap());
        let blob = |digest: &serde_json::Value| {
            image.find(&format!("calico/node/blobs/{}", digest.as_str().unwrap())).unwrap()
        };
        let config = parsed(blob(&fields["config"]["digest"]));
        assert_eq!(config["config"]["Entrypoint"], json!(["/calico-node"]));
        assert_eq!(
            config["rootfs"]["diff_ids"][0], fields["layers"][0]["digest"],
            "a plain archive is its own diff"
        );
        let layer = blob(&fields["layers"][0]["digest"]);
        let mut archive = tar::Archive::new(&*layer.bytes);
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(
            (entry.path().unwrap().to_str(), entry.header().mode().unwrap()),
            (Some("calico-node"), 0o755)
        );
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let image = image();
        let manifest = image.find("calico/node/manifests/v1").unwrap().digest.clone();
        for path in [
            "calico/node/manifests/v2",
            "calico/nodes/manifests/v1",
            "calico/node/tags/list",
            "",
            "calico/node",
        ] {
            assert!(image.find(path).is_none(), "{path}");
        }
        assert!(image.find(&format!("calico/node/blobs/{manifest}")).is_none(), "a manifest is no blob");
    }
}
