//! The files with which TLS is spoken with etcd: checked before they are used, and never shown.
//!
//! What programs of the host read later (Docker, the CNI plugin, containers) is put below `<state-dir>/etcd/<step>/`, in a
//! directory that is named after the content: another content is another path, so whoever is told of it sees that it has
//! changed, and nobody ever reads half of the old and half of the new. Each step has its own, and takes them back itself.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio_rustls::TlsConnector;

use crate::exit::{Failure, Result};
use crate::host::container::Mount;
use crate::host::files::{self, FileError, Print, Staging};
use crate::host::tls;
use crate::options::{EtcdClient, EtcdTls, EtcdTlsFile};
use crate::steps::StepName;
use crate::steps::model::{Content, Proposal, WantedFile};
use crate::values::PinnedFile;

/// What was fetched may be read by all who come into the sandbox: a fetcher knows nothing of keys.
const PRIVATE: u32 = 0o600;

/// Checks each file that was said what it must be. A key in the sandbox is its owner's alone from then on.
pub fn verify(tls: &EtcdTls) -> Result<()> {
    tls.files().try_for_each(|(what, file)| verify_file(what, file))
}

fn verify_file(what: EtcdTlsFile, PinnedFile { path, sha256 }: &PinnedFile) -> Result<()> {
    if what == EtcdTlsFile::Key && path.is_relative() {
        fs::set_permissions(path, Permissions::from_mode(PRIVATE))
            .map_err(FileError::io("set the mode of", path))?;
    }
    let actual = files::sha256_of(path)?;
    match sha256 {
        Some(wanted) if *wanted != actual => Err(Failure::unsuitable(format!(
            "{} {} has SHA-256 {actual}, but {wanted} is configured: it is not the right file, or was changed since",
            what.option(),
            path.display(),
        ))),
        _ => Ok(()),
    }
}

/// Whether a file is one that [`OnHost::propose`] has copied for a step.
pub fn is_copy(path: &Path, step: StepName) -> bool {
    let above = path.parent().and_then(Path::parent);
    above.is_some_and(|above| above.ends_with(Path::new(OWN_DIRECTORY).join(step.as_str())))
}

/// Speaks TLS with these files, once they are verified.
pub fn connector(tls: &EtcdTls) -> Result<TlsConnector> {
    verify(tls)?;
    let identity = tls.identity.as_ref().map(|(cert, key)| (cert.path.as_path(), key.path.as_path()));
    Ok(tls::connector(&tls.ca.path, identity)?)
}

/// Where copies are, below the state directory.
const OWN_DIRECTORY: &str = "etcd";
/// So many hexadecimal digits of a hash name a directory.
const NAME_DIGITS: usize = 16;

/// The files as those find them who read them on the host later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnHost {
    /// Where each is on the host.
    pub paths: Vec<(EtcdTlsFile, PathBuf)>,
    /// The directory and the files in it that are to be made; none when all are on the host already.
    own: Option<(PathBuf, Vec<WantedFile>)>,
    /// The hash of all contents.
    pub sha256: String,
}

impl OnHost {
    /// Where they are, or will be once what [`propose`](Self::propose) asks for was done. Those of the sandbox are copied;
    /// others stay where they are.
    pub fn new(tls: &EtcdTls, state_dir: &Path, step: StepName) -> Result<Self> {
        verify(tls)?;
        let (mut all, mut copied) = (String::new(), String::new());
        let mut hashes = Vec::new();
        for (what, file) in tls.files() {
            let sha256 = files::sha256_of(&file.path)?;
            all.push_str(&sha256);
            if file.path.is_relative() {
                copied.push_str(&sha256);
            }
            hashes.push((what, &file.path, sha256));
        }
        let name = files::sha256_hex(copied.as_bytes())[..NAME_DIGITS].to_owned();
        let directory = state_dir.join(OWN_DIRECTORY).join(step.as_str()).join(name);
        let (uid, gid) = files::own_ids();
        let (mut paths, mut wanted) = (Vec::new(), Vec::new());
        for (what, source, sha256) in hashes {
            if source.is_absolute() {
                paths.push((what, source.clone()));
                continue;
            }
            let path = directory.join(what.name());
            paths.push((what, path.clone()));
            wanted.push(WantedFile {
                path,
                staging: Staging::Beside,
                print: Print { sha256, mode: PRIVATE, uid, gid },
                content: Content::Artifact(source.clone()),
            });
        }
        let own = (!wanted.is_empty()).then_some((directory, wanted));
        Ok(Self { paths, own, sha256: files::sha256_hex(all.as_bytes()) })
    }

    /// The same for who is told of etcd as `client`; none where TLS is not spoken.
    pub fn of(client: &EtcdClient, state_dir: &Path, step: StepName) -> Result<Option<Self>> {
        client.tls.as_ref().map(|tls| Self::new(tls, state_dir, step)).transpose()
    }

    /// Made up.
    #[cfg(test)]
    pub fn at(paths: Vec<(EtcdTlsFile, PathBuf)>, sha256: &str) -> Self {
        Self { paths, own: None, sha256: sha256.to_owned() }
    }

    /// Where one is.
    pub fn path(&self, what: EtcdTlsFile) -> Option<&Path> {
        self.paths.iter().find(|(it, _)| *it == what).map(|(_, path)| path.as_path())
    }

    /// Asks for what is missing of them: to be done before anything is told of them.
    pub fn propose<A>(&self, proposal: &mut Proposal<A>) {
        if let Some((directory, files)) = &self.own {
            proposal.directory(directory.clone());
            for file in files {
                proposal.file(file.clone());
            }
        }
    }

    /// As a container sees them: where they are.
    pub fn mounts(&self) -> Vec<Mount> {
        self.paths.iter().map(|(_, path)| Mount::same(&path.to_string_lossy())).collect()
    }

    /// As Calico's programs are told of them.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        self.paths.iter().map(|(what, path)| (what.variable(), path.display().to_string())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn a_file_that_is_not_the_configured_one_is_refused_and_a_missing_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let verify = |sha256: Option<String>| {
            verify(&EtcdTls { ca: PinnedFile { path: path.clone(), sha256 }, identity: None })
        };
        assert!(verify(None).unwrap_err().one_line().contains(&path.display().to_string()));
        fs::write(&path, "ca").unwrap();
        assert!(verify(None).is_ok());
        assert!(verify(Some(files::sha256_hex(b"ca"))).is_ok());
        let failure = verify(Some("0".repeat(64))).unwrap_err();
        assert_eq!(failure.exit(), Exit::Unsuitable);
        assert!(failure.to_string().starts_with("--etcd-ca "), "{failure}");
    }

    fn pinned(path: impl Into<PathBuf>) -> PinnedFile {
        PinnedFile { path: path.into(), sha256: None }
    }

    #[test]
    fn files_of_the_host_stay_where_they_are_and_others_get_a_place_by_their_content() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["ca", "cert", "key"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let on_host = |files: [&Path; 3]| {
            let [ca, cert, key] = files.map(pinned);
            let tls = EtcdTls { ca, identity: Some((cert, key)) };
            OnHost::new(&tls, Path::new("/state"), StepName::Cni).unwrap()
        };
        // Tests run in the crate's directory, from which a path leads there.
        let up: PathBuf = std::env::current_dir().unwrap().components().skip(1).map(|_| "..").collect();
        let sandbox = up.join(folder.path().strip_prefix("/").unwrap());
        let there = ["ca", "cert", "key"].map(|name| folder.path().join(name));
        let brought = ["ca", "cert", "key"].map(|name| sandbox.join(name));

        let stay = on_host(there.each_ref().map(PathBuf::as_path));
        assert_eq!(stay.own, None);
        assert_eq!(stay.path(EtcdTlsFile::Key), Some(there[2].as_path()));

        let copied = on_host(brought.each_ref().map(PathBuf::as_path));
        let (directory, wanted) = copied.own.clone().unwrap();
        assert_eq!(directory.parent().unwrap(), Path::new("/state/etcd/cni"));
        assert_eq!(wanted.iter().map(|it| it.print.mode).collect::<Vec<_>>(), [0o600; 3]);
        assert_eq!(copied.path(EtcdTlsFile::Ca), Some(directory.join("ca.pem").as_path()));
        assert_eq!(
            copied.environment().iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            ["ETCD_CA_CERT_FILE", "ETCD_CERT_FILE", "ETCD_KEY_FILE"]
        );
        assert_eq!(copied.sha256, stay.sha256, "the same content");

        let mixed = on_host([&there[0], &brought[1], &brought[2]]);
        assert_eq!(mixed.own.as_ref().unwrap().1.len(), 2);

        fs::write(&there[1], "another").unwrap();
        let changed = on_host(brought.each_ref().map(PathBuf::as_path));
        assert_ne!(changed.path(EtcdTlsFile::Ca), copied.path(EtcdTlsFile::Ca));
        assert_ne!(changed.sha256, copied.sha256);
    }
}
