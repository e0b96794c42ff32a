//! What `resource.json` is filled with: the artifacts' URIs with their checksums, and the images.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde_json::Value;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::{Fault, Package, PackageFile};

/// The name in `resource.json` of the calico/node image.
const NODE_IMAGE: &str = "calico-node";
/// The name in `resource.json` of the image of Docker's network plugin.
const LIBNETWORK_IMAGE: &str = "libnetwork-plugin";

/// The values for the placeholders of `resource.json`, where `"@NAME@"` stands for the artifact or image NAME.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// For each artifact, `URI#sha256=HEX`.
    pub artifacts: BTreeMap<String, String>,
    /// The calico/node image.
    pub node_image: String,
    /// The image of Docker's network plugin.
    pub libnetwork_image: String,
}

/// A file that is to be served as an artifact, and cannot be.
#[derive(Debug, Error)]
pub enum HashError {
    /// It cannot be read.
    #[error("{name}={}: {reason}", path.display())]
    Unreadable {
        /// The artifact.
        name: String,
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: io::Error,
    },
    /// Its name cannot be the end of a URI.
    #[error("{name}={}: its file name becomes the end of its URI: only letters, digits, '.', '_' and '-'", path.display())]
    FileName {
        /// The artifact.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// Two artifacts would have the same URI.
    #[error("{name}={}: another artifact has the same file name, and so would have the same URI", path.display())]
    SameUri {
        /// The artifact.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// The folder that serves the artifacts is not a URL.
    #[error("the artifacts' URL {0} is not http://HOST/… or https://HOST/…, without query and fragment")]
    BaseUrl(String),
}

impl Resources {
    /// Resources for files that are served below `base_url` under their own names; hashes every file.
    pub fn from_files(
        base_url: &str,
        files: &BTreeMap<String, PathBuf>,
        node_image: &str,
        libnetwork_image: &str,
    ) -> Result<Self, HashError> {
        let host = base_url.strip_prefix("http://").or_else(|| base_url.strip_prefix("https://"));
        let is_bad = |c: char| c.is_whitespace() || c.is_control() || "?#'\"\\".contains(c);
        if host.is_none_or(|host| host.is_empty() || host.starts_with('/') || host.contains(is_bad)) {
            return Err(HashError::BaseUrl(base_url.to_owned()));
        }
        let base_url = base_url.trim_end_matches('/');
        let mut artifacts = BTreeMap::new();
        let mut file_names = BTreeSet::new();
        for (name, path) in files {
            let (name, path) = (name.clone(), path.clone());
            let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            let file_name = path.file_name().and_then(|file| file.to_str());
            let Some(file_name) = file_name.filter(|file| file.bytes().all(is_plain)).map(str::to_owned)
            else {
                return Err(HashError::FileName { name, path });
            };
            let uri = format!("{base_url}/{file_name}");
            if !file_names.insert(file_name) {
                return Err(HashError::SameUri { name, path });
            }
            match sha256(&path) {
                Ok(hash) => artifacts.insert(name, format!("{uri}#sha256={hash}")),
                Err(reason) => return Err(HashError::Unreadable { name, path, reason }),
            };
        }
        Ok(Self {
            artifacts,
            node_image: node_image.to_owned(),
            libnetwork_image: libnetwork_image.to_owned(),
        })
    }

    fn get(&self, name: &str) -> Option<&str> {
        match name {
            NODE_IMAGE => Some(&self.node_image),
            LIBNETWORK_IMAGE => Some(&self.libnetwork_image),
            _ => self.artifacts.get(name).map(String::as_str),
        }
    }
}

/// A file's SHA-256 in lower-case hexadecimal.
fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex::encode(hash.finalize())),
            Ok(read) => hash.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Why a package cannot be filled.
#[derive(Debug, Error)]
pub enum FillError {
    /// `resource.json` is not JSON.
    #[error(transparent)]
    Package(#[from] Fault),
    /// Names that `resource.json` and the resources do not share.
    #[error("{}", differences(.missing, .unknown, .known))]
    Names {
        /// Placeholders that nothing is given for.
        missing: Vec<String>,
        /// Artifacts that are given and have no placeholder.
        unknown: Vec<String>,
        /// All placeholders.
        known: Vec<String>,
    },
}

fn differences(missing: &[String], unknown: &[String], known: &[String]) -> String {
    let mut sentences = Vec::new();
    if !missing.is_empty() {
        sentences.push(format!("resource.json wants {}, and nothing is given for it", missing.join(", ")));
    }
    if !unknown.is_empty() {
        let (unknown, known) = (unknown.join(", "), known.join(", "));
        sentences.push(format!("resource.json has no placeholder for {unknown}; it has {known}"));
    }
    sentences.join("\n")
}

impl Package {
    /// This package with every placeholder of its `resource.json` replaced.
    pub fn filled(&self, resources: &Resources) -> Result<Self, FillError> {
        let mut resource = self.json(PackageFile::Resource)?;
        let mut known = Vec::new();
        let mut missing = Vec::new();
        for_each_placeholder(&mut resource, &mut |text, name| {
            match resources.get(&name) {
                Some(value) => value.clone_into(text),
                None => missing.push(name.clone()),
            }
            known.push(name);
        });
        let unknown: Vec<_> =
            resources.artifacts.keys().filter(|name| !known.contains(name)).cloned().collect();
        if !missing.is_empty() || !unknown.is_empty() {
            return Err(FillError::Names { missing, unknown, known });
        }
        Ok(Self { resource: format!("{resource:#}\n"), ..self.clone() })
    }

    /// The placeholders that are left in `resource.json`.
    pub fn placeholders(&self) -> Result<Vec<String>, Fault> {
        let mut names = Vec::new();
        let mut resource = self.json(PackageFile::Resource)?;
        for_each_placeholder(&mut resource, &mut |_, name| names.push(name));
        Ok(names)
    }
}

/// Calls `f` with every string that is a placeholder, and its name.
fn for_each_placeholder(value: &mut Value, f: &mut impl FnMut(&mut String, String)) {
    match value {
        Value::String(text) => {
            let name = text.strip_prefix('@').and_then(|rest| rest.strip_suffix('@')).map(str::to_owned);
            if let Some(name) = name {
                f(text, name);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| for_each_placeholder(item, f)),
        Value::Object(members) => members.values_mut().for_each(|member| for_each_placeholder(member, f)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
