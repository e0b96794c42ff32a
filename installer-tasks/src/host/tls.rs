//! TLS towards a server, with PEM files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, Error, RootCertStore};

use crate::exit::Failure;

/// Files that TLS cannot be spoken with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It is not what it should be.
    #[error("{} is not read as {what}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// What is wrong.
        source: pem::Error,
    },
    /// They do not belong together, or are of a kind that is not known.
    #[error("{} and {} do not make a client's identity: {source}", certificate.display(), key.display())]
    Identity {
        /// The certificate.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
        /// What is wrong.
        source: Error,
    },
    /// The library has no version of TLS that it could speak.
    #[error("TLS cannot be spoken: {0}")]
    Protocol(Error),
}

impl From<TlsError> for Failure {
    fn from(error: TlsError) -> Self {
        Self::unsuitable(error.to_string())
    }
}

/// Connects to servers whose certificate is of an authority in `authorities`, as the client of a certificate and its key
/// where they are given: PEM files.
pub fn connector(authorities: &Path, identity: Option<(&Path, &Path)>) -> Result<TlsConnector, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(authorities)?);
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Protocol)?
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let private = PrivateKeyDer::from_pem_file(key).map_err(failed(key, "a private key"))?;
            builder.with_client_auth_cert(chain, private).map_err(|source| TlsError::Identity {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
                source,
            })?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = failed(path, "a certificate");
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Ok(found) if found.is_empty() => Err(failed(pem::Error::NoItemsFound)),
        found => found.map_err(failed),
    }
}

fn failed(path: &Path, what: &'static str) -> impl Fn(pem::Error) -> TlsError {
    move |source| TlsError::File { path: path.to_owned(), what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_something_else_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (empty, key) = (folder.path().join("empty.pem"), folder.path().join("key.pem"));
        std::fs::write(&empty, "").unwrap();
        std::fs::write(&key, "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n").unwrap();
        for (path, word) in [(&empty, "a certificate"), (&key, "a certificate")] {
            let error = connector(path, Some((path, path))).err().unwrap().to_string();
            assert!(error.contains(&path.display().to_string()) && error.contains(word), "{error}");
        }
        let error = PrivateKeyDer::from_pem_file(&key).map_err(failed(&key, "a private key")).err().unwrap();
        assert!(error.to_string().contains("key.pem is not read as a private key"), "{error}");
    }
}
