//! The fetcher: puts the files of a task into its sandbox.
//!
//! The agent describes the work as JSON in `MESOS_FETCHER_INFO` and does all bookkeeping of the
//! cache itself. Every file is written under another name first and renamed when it is whole, so
//! that nothing half lies under a final name.

mod archive;
mod download;
mod info;

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt as _, lchown},
    path::{Component, Path, PathBuf},
};

pub use self::info::{Action, FetcherInfo, Item, Uri};
use self::{
    archive::{ArchiveError, Kind},
    download::DownloadError,
};

/// Why the files are not all there.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The agent always sets it.
    #[error("missing MESOS_FETCHER_INFO environment variable")]
    NoInfo,
    /// The description of the work cannot be read.
    #[error("failed to parse MESOS_FETCHER_INFO: {0}")]
    Info(#[from] serde_json::Error),
    /// The user of the files is not in `/etc/passwd`.
    #[error("no user '{0}' in /etc/passwd")]
    NoUser(String),
    /// One item failed.
    #[error("failed to fetch '{uri}': {source}")]
    Item {
        /// The item's URI.
        uri: String,
        /// What went wrong.
        source: ItemError,
    },
    /// The cache directory cannot be made.
    #[error("could not create the fetcher cache directory {path}: {source}")]
    Cache {
        /// The directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// Why one item failed.
#[derive(Debug, thiserror::Error)]
pub enum ItemError {
    /// The URI names no file.
    #[error("malformed URI: {0}")]
    Uri(&'static str),
    /// The output file would lie outside the sandbox.
    #[error("output file '{0}' must be a relative path without '..'")]
    OutputFile(String),
    /// The agent gave no place in the cache.
    #[error("the item goes through the cache, but there is no {0}")]
    NoCache(&'static str),
    /// The source cannot be read.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// The archive cannot be unpacked.
    #[error("failed to extract archive '{path}': {source}")]
    Archive {
        /// The archive.
        path: PathBuf,
        /// The reason.
        source: ArchiveError,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// The user and group that own what is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    user: u32,
    group: u32,
}

/// Fetches everything that `json`, the value of `MESOS_FETCHER_INFO`, describes.
pub async fn run(json: Option<&str>) -> Result<(), FetchError> {
    let info: FetcherInfo = serde_json::from_str(json.ok_or(FetchError::NoInfo)?)?;
    let owner = info.user.as_deref().map(find_user).transpose()?;
    if let Some(path) = &info.cache_directory
        && info.items.iter().any(|item| item.action != Action::BypassCache)
    {
        let made = fs::create_dir_all(path).and_then(|()| own(path, owner));
        made.map_err(|source| FetchError::Cache { path: path.clone(), source })?;
    }
    for item in &info.items {
        eprintln!("mesos-fetcher: fetching '{}' ({:?})", item.uri.value, item.action);
        fetch(&info, item, owner)
            .await
            .map_err(|source| FetchError::Item { uri: item.uri.value.clone(), source })?;
    }
    Ok(())
}

async fn fetch(info: &FetcherInfo, item: &Item, owner: Option<Owner>) -> Result<(), ItemError> {
    let sandbox = &info.sandbox_directory;
    let uri = &item.uri;
    let target = sandbox.join(output_file(uri)?);
    make_parents(sandbox, &target, owner)?;

    if item.action == Action::BypassCache {
        let mode = if uri.executable { 0o755 } else { 0o644 };
        download::to_file(info, uri, &target, mode, owner).await?;
        if uri.extract && !uri.executable {
            extract(&target, sandbox, owner)?;
        }
        return Ok(());
    }

    let directory = info.cache_directory.as_ref().ok_or(ItemError::NoCache("cache directory"))?;
    let name = item.cache_filename.as_ref().filter(|name| !name.is_empty());
    let cached = directory.join(name.ok_or(ItemError::NoCache("cache file name"))?);
    if item.action == Action::DownloadAndCache {
        download::to_file(info, uri, &cached, 0o644, owner).await?;
    }
    if uri.extract && !uri.executable && extract(&cached, sandbox, owner)? {
        return Ok(());
    }
    let mode = if uri.executable { 0o755 } else { 0o644 };
    download::copy(&cached, &target, mode, owner)?;
    Ok(())
}

/// Extracts `path` into the sandbox if its name is that of an archive; tells whether it was.
fn extract(path: &Path, sandbox: &Path, owner: Option<Owner>) -> Result<bool, ItemError> {
    let Some(kind) = Kind::of(path) else {
        eprintln!("mesos-fetcher: not extracting {}: it does not seem to be an archive", path.display());
        return Ok(false);
    };
    archive::extract(kind, path, sandbox, owner)
        .map_err(|source| ItemError::Archive { path: path.to_owned(), source })?;
    Ok(true)
}

/// The name of the file in the sandbox. As in Mesos, a query string stays part of it.
fn output_file(uri: &Uri) -> Result<PathBuf, ItemError> {
    if let Some(file) = &uri.output_file {
        let path = PathBuf::from(file);
        let inside = path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        return if inside && path.file_name().is_some() {
            Ok(path)
        } else {
            Err(ItemError::OutputFile(file.clone()))
        };
    }
    let value = uri.value.trim_start();
    if value.contains(['\\', '\'', '\0']) {
        return Err(ItemError::Uri("illegal characters"));
    }
    let path = match value.split_once("://") {
        Some((_, rest)) => rest.split_once('/').ok_or(ItemError::Uri("missing path"))?.1,
        None => value.trim_end_matches('/'),
    };
    match path.rsplit('/').next() {
        Some(name) if !name.is_empty() && name != "." && name != ".." => Ok(name.into()),
        _ => Err(ItemError::Uri("its path names no file")),
    }
}

/// Makes the directories of `target` that are missing below `sandbox`.
fn make_parents(sandbox: &Path, target: &Path, owner: Option<Owner>) -> Result<(), ItemError> {
    let Some(parents) = target.parent().and_then(|parent| parent.strip_prefix(sandbox).ok()) else {
        return Ok(());
    };
    let mut path = sandbox.to_owned();
    for part in parents {
        path.push(part);
        if path.is_dir() {
            continue;
        }
        let made = fs::create_dir(&path).and_then(|()| own(&path, owner));
        made.map_err(|source| ItemError::Write { path: path.clone(), source })?;
    }
    Ok(())
}

fn own(path: &Path, owner: Option<Owner>) -> io::Result<()> {
    match owner {
        Some(owner) => lchown(path, Some(owner.user), Some(owner.group)),
        None => Ok(()),
    }
}

/// Gives the finished `file` its mode and owner and puts it in place of `target`.
fn finish(file: tempfile::NamedTempFile, target: &Path, mode: u32, owner: Option<Owner>) -> io::Result<()> {
    file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    own(file.path(), owner)?;
    file.persist(target)?;
    Ok(())
}

/// Looks a user up. A static binary cannot ask the C library for users from other sources.
fn find_user(name: &str) -> Result<Owner, FetchError> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    parse_user(&passwd, name).ok_or_else(|| FetchError::NoUser(name.to_owned()))
}

fn parse_user(passwd: &str, name: &str) -> Option<Owner> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let user = fields.nth(1)?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        Some(Owner { user, group })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(value: &str, output_file: Option<&str>) -> Result<String, String> {
        let uri = Uri {
            value: value.into(),
            executable: false,
            extract: true,
            output_file: output_file.map(Into::into),
        };
        output_file_name(&uri)
    }

    fn output_file_name(uri: &Uri) -> Result<String, String> {
        output_file(uri).map(|p| p.display().to_string()).map_err(|e| e.to_string())
    }

    #[test]
    fn the_base_name_is_derived_as_mesos_does() {
        for (value, expected) in [
            ("http://h:8080/a/b.tar.gz", "b.tar.gz"),
            ("http://h/a?x=1", "a?x=1"),
            ("file:///opt/x", "x"),
            (" /opt/y", "y"),
            ("relative/z/", "z"),
        ] {
            assert_eq!(name(value, None).as_deref(), Ok(expected), "{value}");
        }
        for value in ["http://h", "http://h/", "http://h/a/", "/", "http://h/it's", ""] {
            assert!(name(value, None).unwrap_err().starts_with("malformed URI"), "{value}");
        }
    }

    #[test]
    fn output_files_stay_in_the_sandbox() {
        assert_eq!(name("/a", Some("b/c")).as_deref(), Ok("b/c"));
        for file in ["/etc/passwd", "../x", "a/../../x", ""] {
            let error = name("/a", Some(file)).unwrap_err();
            assert!(error.contains(&format!("'{file}'")), "{error}");
        }
    }

    #[test]
    fn users_come_from_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533::/:/bin/false\n";
        assert_eq!(parse_user(passwd, "nobody"), Some(Owner { user: 65534, group: 65533 }));
        assert_eq!(parse_user(passwd, "no"), None);
    }
}
