//! Mounts: made by us below our own folders, found again in the kernel's table.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

use crate::error::{Context, Result};
use crate::paths::create_folder;

/// Mounts `base` at `target` with a writable layer in `layer`.
pub(crate) fn overlay(base: &Path, layer: &Path, target: &Path) -> Result<()> {
    let (upper, work) = (layer.join("upper"), layer.join("work"));
    for folder in [&upper, &work, &target.to_path_buf()] {
        create_folder(folder)?;
    }
    let options =
        format!("lowerdir={},upperdir={},workdir={}", base.display(), upper.display(), work.display());
    let options = std::ffi::CString::new(options).map_err(std::io::Error::other).at("mount", target)?;
    mount("overlay", target, "overlay", MountFlags::empty(), &*options).at("mount an overlay at", target)
}

/// Shows `source` at `target`, without what is mounted below it: those mounts could be peers of the
/// machine's own, and unmounting one would unmount the other.
pub(crate) fn bind(source: &Path, target: &Path) -> Result<()> {
    create_folder(target)?;
    mount_bind(source, target).at("bind-mount", target)
}

/// Mounts a `proc` file system.
pub(crate) fn proc(target: &Path) -> Result<()> {
    create_folder(target)?;
    mount("proc", target, "proc", MountFlags::empty(), None).at("mount proc at", target)
}

/// What is mounted at a folder or below it, the deepest last.
pub(crate) fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let table = Path::new("/proc/self/mountinfo");
    Ok(parse(&fs::read_to_string(table).at("read", table)?)
        .into_iter()
        .filter(|point| point.starts_with(folder))
        .collect())
}

/// Unmounts all at a folder and below it, however often it was mounted over.
pub(crate) fn unmount_below(folder: &Path) -> Result<()> {
    for point in below(folder)?.iter().rev() {
        unmount(point, UnmountFlags::DETACH).at("unmount", point)?;
    }
    Ok(())
}

/// The mount points in `/proc/self/mountinfo`, in its order: what is mounted later comes later.
fn parse(mountinfo: &str) -> Vec<PathBuf> {
    mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape).collect()
}

/// The kernel writes blanks and backslashes in paths as three octal digits.
fn unescape(field: &str) -> PathBuf {
    ["\\040 ", "\\011\t", "\\012\n", "\\134\\"]
        .iter()
        .fold(field.to_owned(), |path, pair| {
            let (code, character) = pair.split_at(4);
            path.replace(code, character)
        })
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_from_the_kernels_table() {
        let table = "25 1 254:0 / / rw - ext4 /dev/vda rw\n30 25 0:29 / /run/a\\040b rw shared:1 - overlay overlay rw\n";
        assert_eq!(parse(table), [PathBuf::from("/"), PathBuf::from("/run/a b")]);
    }

    #[test]
    fn only_what_is_below_the_folder_counts() {
        assert!(Path::new("/run/x/a/b").starts_with("/run/x/a"));
        assert!(
            !Path::new("/run/x/ab").starts_with("/run/x/a"),
            "a name with the same beginning is another folder"
        );
    }
}
