//! Artifacts: used only when their SHA-256 is the one that was promised.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use super::files::{self, FileError};
use crate::exit::{Failure, Result};
use crate::values::Artifact;

/// Checks an artifact's hash.
pub fn verify(artifact: &Artifact) -> Result<()> {
    let actual = files::sha256_of(&artifact.path)?;
    if actual == artifact.sha256 {
        return Ok(());
    }
    Err(Failure::unsuitable(format!(
        "artifact {} has SHA-256 {actual}, but {} is configured: it is corrupt or not the right file; nothing was changed",
        artifact.path.display(),
        artifact.sha256
    )))
}

/// Verifies an artifact and makes a program of it: the file itself, or, when it is a .tar.gz, its member `name`,
/// which is unpacked beside it.
pub fn program(artifact: &Artifact, name: &str) -> Result<PathBuf> {
    verify(artifact)?;
    let program =
        if is_gzip(&artifact.path)? { unpack(&artifact.path, name)? } else { artifact.path.clone() };
    files::make_executable(&program)?;
    // A name without a slash would be looked for in PATH.
    std::path::absolute(&program).map_err(|error| FileError::io("find", program)(error).into())
}

fn is_gzip(path: &Path) -> Result<bool, FileError> {
    let mut magic = [0; 2];
    let mut file = File::open(path).map_err(FileError::io("open", path))?;
    match file.read_exact(&mut magic) {
        Ok(()) => Ok(magic == [0x1f, 0x8b]),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(FileError::io("read", path)(error)),
    }
}

/// Unpacks the regular file called `name` in any directory of the archive.
fn unpack(archive: &Path, name: &str) -> Result<PathBuf> {
    let broken = |error: io::Error| {
        Failure::unsuitable(format!("artifact {} is not a readable .tar.gz", archive.display()))
            .because(error)
    };
    let file = File::open(archive).map_err(FileError::io("open", archive))?;
    let mut tar = tar::Archive::new(GzDecoder::new(BufReader::new(file)));
    for member in tar.entries().map_err(broken)? {
        let mut member = member.map_err(broken)?;
        let is_it = member.header().entry_type().is_file()
            && member.path().map_err(broken)?.file_name().is_some_and(|found| found == name);
        if is_it {
            let target = archive.with_file_name(format!(".{name}.unpacked"));
            let mut output = File::create(&target).map_err(FileError::io("create", &target))?;
            io::copy(&mut member, &mut output).map_err(broken)?;
            return Ok(target);
        }
    }
    Err(Failure::unsuitable(format!("artifact {} holds no file called {name}", archive.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn artifact(path: &Path) -> Artifact {
        Artifact { path: path.to_owned(), sha256: files::sha256_of(path).unwrap() }
    }

    fn archive(directory: &Path, members: &[(&str, &[u8])]) -> PathBuf {
        let path = directory.join("etcd.tar.gz");
        let gzip = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(gzip);
        for (name, content) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, *content).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap();
        path
    }

    #[test]
    fn a_wrong_hash_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("etcd");
        std::fs::write(&path, "etcd").unwrap();
        let wrong = Artifact { path, sha256: "0".repeat(64) };
        let failure = program(&wrong, "etcd").unwrap_err();
        assert_eq!(failure.exit(), crate::exit::Exit::Unsuitable);
        assert!(failure.to_string().contains(&wrong.sha256), "{failure}");
    }

    #[test]
    fn a_plain_program_is_made_executable() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("etcd");
        std::fs::write(&path, "#!").unwrap();
        assert_eq!(program(&artifact(&path), "etcd").unwrap(), path);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn the_member_of_an_archive_is_found_in_any_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = archive(directory.path(), &[("e-v3.4/etcdctl", b"ctl"), ("e-v3.4/etcd", b"the server")]);
        let unpacked = program(&artifact(&path), "etcd").unwrap();
        assert_eq!(std::fs::read(unpacked).unwrap(), b"the server");
    }

    #[test]
    fn an_archive_without_it_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = archive(directory.path(), &[("etcd/README", b"no")]);
        assert!(
            program(&artifact(&path), "etcd").unwrap_err().to_string().contains("holds no file called etcd")
        );
    }
}
