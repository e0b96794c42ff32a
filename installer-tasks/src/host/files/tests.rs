use super::staging::{STAGING_DIRECTORY, staged_in};
use super::*;

fn print(content: &[u8], mode: u32) -> Print {
    let (uid, gid) = own_ids();
    Print { sha256: sha256_hex(content), mode, uid, gid }
}

#[test]
fn a_put_file_has_content_and_mode_and_leaves_nothing_beside() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("calico");
    for (content, mode) in [(&b"one"[..], 0o755), (b"two", 0o644)] {
        Files::default().put(&target, Staging::Beside, || Ok(content), &print(content, mode)).unwrap();
        assert_eq!(Files::default().print_of(&target).unwrap(), Some(print(content, mode)));
    }
    assert_eq!(Files::default().list(directory.path()).unwrap(), [target]);
}

#[test]
fn other_content_than_promised_replaces_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("calico");
    Files::default().put(&target, Staging::Beside, || Ok(&b"good"[..]), &print(b"good", 0o755)).unwrap();
    let error = Files::default()
        .put(&target, Staging::Beside, || Ok(&b"evil"[..]), &print(b"better", 0o755))
        .unwrap_err();
    assert!(matches!(error, FileError::WrongContent { .. }), "{error}");
    assert_eq!(fs::read(&target).unwrap(), b"good");
    assert_eq!(Files::default().list(directory.path()).unwrap(), [target]);
}

#[test]
fn a_crash_s_leftover_is_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("calico");
    fs::write(directory.path().join(".calico.calico-dcos"), "half of a longer content").unwrap();
    Files::default().put(&target, Staging::Beside, || Ok(&b"new"[..]), &print(b"new", 0o755)).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"new");
    assert_eq!(Files::default().list(directory.path()).unwrap(), [target]);
}

/// Is read while the staged file is open: at that moment the directory must be empty.
struct Spy<'a>(&'a Path, bool);

impl Read for Spy<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(Files::default().list(self.0).unwrap().is_empty());
        if std::mem::replace(&mut self.1, true) {
            return Ok(0);
        }
        buffer[..2].copy_from_slice(b"{}");
        Ok(2)
    }
}

#[test]
fn staging_outside_never_writes_in_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("net.d");
    fs::create_dir(&config).unwrap();
    let target = config.join("calico.conf");
    Files::default()
        .put(&target, Staging::Outside, || Ok(Spy(&config, false)), &print(b"{}", 0o644))
        .unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"{}");
    assert_eq!(Files::default().list(directory.path()).unwrap(), [config]);
}

#[test]
fn the_directory_can_be_a_mount_point() {
    // The one directory that is a mount point everywhere, its parent on another filesystem.
    let target = PathBuf::from(format!("/dev/shm/calico-installer-test-{}", std::process::id()));
    Files::default().put(&target, Staging::Outside, || Ok(&b"{}"[..]), &print(b"{}", 0o644)).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"{}");
    for directory in Staging::Outside.directories(&target) {
        assert!(!staged_in(&directory, &target).exists());
    }
    assert!(!Path::new("/dev/shm").join(STAGING_DIRECTORY).exists());
    Files::default().remove(&target).unwrap();
}

#[test]
fn links_and_directories_are_not_taken_for_files() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("calico");
    std::os::unix::fs::symlink("/bin/sh", &link).unwrap();
    assert!(matches!(Files::default().print_of(&link), Err(FileError::NotRegular(_))));
    assert!(matches!(Files::default().print_of(directory.path()), Err(FileError::NotRegular(_))));
    assert_eq!(Files::default().print_of(&directory.path().join("none")).unwrap(), None);
}
