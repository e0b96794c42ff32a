//! Getting a file from where its URI says.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::{StatusCode, Uri as HttpUri, header};
use http_body_util::Full;
use mesos_v1::http::{Connection, HttpError, Response};
use tempfile::NamedTempFile;
use tokio::time::timeout;

use super::{FetcherInfo, Owner, Uri, finish};

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const MAX_REDIRECTS: usize = 10;

/// Why a file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// Only http, file and paths are understood.
    #[error("cannot fetch '{0}': expected http://, file:// with an absolute path, or a path")]
    Scheme(String),
    /// A relative path without a directory that it is relative to.
    #[error("a relative path was passed for the resource but the frameworks home was not specified")]
    Relative,
    /// A local file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The server failed.
    #[error("error downloading resource: {0}")]
    Http(#[from] HttpError),
    /// The server has no such file.
    #[error("error downloading resource, received HTTP return code {0}")]
    Status(StatusCode),
    /// The download stood still.
    #[error("error downloading resource: nothing arrived for {0:?}")]
    Stalled(Duration),
    /// The server redirects for ever, or to nowhere.
    #[error("error downloading resource: bad redirect to '{0}'")]
    Redirect(String),
}

/// Gets what `uri` names into `target`.
pub(super) async fn to_file(
    info: &FetcherInfo,
    uri: &Uri,
    target: &Path,
    mode: u32,
    owner: Option<Owner>,
) -> Result<(), DownloadError> {
    let value = uri.value.trim_start();
    if value.starts_with("http://") {
        return download(value, target, mode, owner, info.stall_timeout()).await;
    }
    let path = match value.strip_prefix("file://") {
        Some(rest) => Path::new(rest.strip_prefix("localhost").unwrap_or(rest)),
        None if value.contains("://") => return Err(DownloadError::Scheme(value.to_owned())),
        None => Path::new(value),
    };
    if path.is_absolute() {
        copy(path, target, mode, owner)
    } else if value.starts_with("file://") {
        Err(DownloadError::Scheme(value.to_owned()))
    } else {
        let home = info.frameworks_home.as_ref().filter(|home| home.is_absolute());
        copy(&home.ok_or(DownloadError::Relative)?.join(path), target, mode, owner)
    }
}

/// Copies a local file.
pub(super) fn copy(
    source: &Path,
    target: &Path,
    mode: u32,
    owner: Option<Owner>,
) -> Result<(), DownloadError> {
    let unreadable = |error| DownloadError::Read { path: source.to_owned(), source: error };
    let mut file = fs::File::open(source).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err(unreadable(io::ErrorKind::IsADirectory.into()));
    }
    let unwritable = |error| DownloadError::Write { path: target.to_owned(), source: error };
    let mut temporary = temporary(target).map_err(unwritable)?;
    io::copy(&mut file, &mut temporary).map_err(unwritable)?;
    finish(temporary, target, mode, owner).map_err(unwritable)
}

/// A file beside `target`, so that it can be renamed.
fn temporary(target: &Path) -> io::Result<NamedTempFile> {
    NamedTempFile::with_prefix_in(".fetching-", target.parent().unwrap_or(Path::new(".")))
}

async fn download(
    url: &str,
    target: &Path,
    mode: u32,
    owner: Option<Owner>,
    stall: Duration,
) -> Result<(), DownloadError> {
    let unwritable = |error| DownloadError::Write { path: target.to_owned(), source: error };
    let mut response = get(url, stall).await?;
    let mut file = temporary(target).map_err(unwritable)?;
    loop {
        let chunk = timeout(stall, response.chunk()).await.map_err(|_| DownloadError::Stalled(stall))??;
        match chunk {
            Some(bytes) => file.write_all(&bytes).map_err(unwritable)?,
            None => break,
        }
    }
    finish(file, target, mode, owner).map_err(unwritable)
}

async fn get(url: &str, stall: Duration) -> Result<Response, DownloadError> {
    let bad = |url: &str| DownloadError::Redirect(url.to_owned());
    let mut uri: HttpUri = url.parse().map_err(|_| DownloadError::Scheme(url.to_owned()))?;
    for _ in 0..MAX_REDIRECTS {
        let host = uri.host().ok_or_else(|| bad(&uri.to_string()))?;
        let authority = format!("{host}:{}", uri.port_u16().unwrap_or(80));
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let request = http::Request::get(path).body(Full::new(Bytes::new()));
        let request = request.map_err(|_| bad(&uri.to_string()))?;
        let mut connection = Connection::open(&authority, CONNECT_LIMIT).await?;
        let response = connection.send(request, stall).await?;
        match response.status {
            StatusCode::OK => return Ok(response),
            status if status.is_redirection() => {
                let location = response.header(header::LOCATION.as_str()).unwrap_or_default();
                uri = redirected(&uri, location).ok_or_else(|| bad(location))?;
            }
            status => return Err(DownloadError::Status(status)),
        }
    }
    Err(bad(&uri.to_string()))
}

/// Where `location` leads from `from`; http only.
fn redirected(from: &HttpUri, location: &str) -> Option<HttpUri> {
    let authority = from.authority()?;
    let absolute = if location.starts_with("http://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("http:{location}")
    } else if location.starts_with('/') {
        format!("http://{authority}{location}")
    } else if location.is_empty() || location.contains("://") {
        return None;
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("http://{authority}{folder}/{location}")
    };
    absolute.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects() {
        let from = "http://h:8080/a/b?q".parse().unwrap();
        for (location, expected) in [
            ("http://g/x", "http://g/x"),
            ("//g:1/x", "http://g:1/x"),
            ("/x?y", "http://h:8080/x?y"),
            ("x", "http://h:8080/a/x"),
        ] {
            assert_eq!(redirected(&from, location).unwrap().to_string(), expected);
        }
        assert_eq!(redirected(&from, "https://g/x"), None);
        assert_eq!(redirected(&from, ""), None);
    }
}
