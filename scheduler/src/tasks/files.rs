//! Files that a task needs and nobody else may see: certificates, keys, credentials. A task is told where they are; what is
//! in them is never a part of what is sent to the master.

use super::template::Template;
use super::{artifact_flag, flag};
use crate::config::{Etcd, FileSource, Node, Tls};

/// The flag that tells the installer of a file, which is `name` in the sandbox when it is brought there.
pub(super) fn file_flag(option: &str, name: &str, source: &FileSource) -> String {
    match source {
        FileSource::Host { path, sha256 } => flag(option, pinned(&path.display(), sha256.as_deref())),
        FileSource::Uri(artifact) => artifact_flag(option, &(name.to_owned(), artifact.clone())),
        FileSource::Secret { sha256, .. } => {
            flag(option, pinned(&format_args!("./{name}"), sha256.as_deref()))
        }
    }
}

fn pinned(path: &dyn std::fmt::Display, sha256: Option<&str>) -> String {
    match sha256 {
        Some(sha256) => format!("{path}#sha256={sha256}"),
        None => path.to_string(),
    }
}

/// The files of TLS towards etcd: the installer's option for each, its name in the sandbox, and where it comes from.
fn tls_files(tls: &Tls) -> impl Iterator<Item = (&'static str, &'static str, &FileSource)> {
    let identity = tls
        .identity
        .iter()
        .flat_map(|(cert, key)| [("etcd-cert", "etcd-cert.pem", cert), ("etcd-key", "etcd-key.pem", key)]);
    std::iter::once(("etcd-ca", "etcd-ca.pem", &tls.ca)).chain(identity)
}

/// The flags of TLS towards etcd.
pub(super) fn tls_flags(etcd: &Etcd) -> Vec<String> {
    let files = etcd.tls.iter().flat_map(tls_files);
    files.map(|(option, name, source)| file_flag(option, name, source)).collect()
}

/// What registries' credentials are called in the sandbox.
pub(super) const CREDENTIALS: &str = "registry-credentials";

impl Template {
    /// The same, with the credentials of registries.
    pub fn with_credentials(self, node: &Node) -> Self {
        node.registry_credentials
            .iter()
            .fold(self, |template, source| template.with_file(CREDENTIALS, source))
    }

    /// The same, with a file of its own brought to the sandbox.
    pub fn with_file(mut self, name: &str, source: &FileSource) -> Self {
        match source {
            FileSource::Host { .. } => {}
            FileSource::Uri(artifact) => self.private.push((name.to_owned(), artifact.clone())),
            FileSource::Secret { name: secret, .. } => self.secrets.push((name.to_owned(), secret.clone())),
        }
        self
    }

    /// The same, with the files of TLS towards etcd.
    pub fn with_tls(self, etcd: &Etcd) -> Self {
        let files = etcd.tls.iter().flat_map(tls_files);
        files.fold(self, |template, (_, name, source)| template.with_file(name, source))
    }
}
