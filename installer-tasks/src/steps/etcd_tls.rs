//! The files with which TLS is spoken with etcd: checked before they are used, and never shown.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use tokio_rustls::TlsConnector;

use crate::exit::{Failure, Result};
use crate::host::files::{self, FileError};
use crate::host::tls;
use crate::options::{EtcdTls, EtcdTlsFile};
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

/// Speaks TLS with these files, once they are verified.
pub fn connector(tls: &EtcdTls) -> Result<TlsConnector> {
    verify(tls)?;
    let identity = tls.identity.as_ref().map(|(cert, key)| (cert.path.as_path(), key.path.as_path()));
    Ok(tls::connector(&tls.ca.path, identity)?)
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
}
