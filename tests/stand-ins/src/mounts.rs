//! What of the host is mounted into a container.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Those of `wanted` that are mounted into this container, also by a link that leads to them.
pub fn mounted(wanted: &[&str]) -> std::io::Result<BTreeSet<PathBuf>> {
    let points = mount_points(&std::fs::read_to_string("/proc/self/mountinfo")?);
    // Where /var/run is a link, the kernel's list has what it leads to.
    let is_mounted = |path: &Path| {
        points.contains(path) || std::fs::canonicalize(path).is_ok_and(|real| points.contains(&real))
    };
    Ok(wanted.iter().map(PathBuf::from).filter(|path| is_mounted(path)).collect())
}

/// The fifth field of each line of `/proc/self/mountinfo`.
fn mount_points(mountinfo: &str) -> BTreeSet<PathBuf> {
    mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_the_fifth_field() {
        let text = "36 35 98:0 /mnt1 /var/lib/calico rw,noatime master:1 - ext3 /dev/root rw\n\
                    37 35 0:5 / /proc rw - proc proc rw\n";
        assert_eq!(mount_points(text), ["/proc", "/var/lib/calico"].map(PathBuf::from).into());
    }

    #[test]
    fn what_is_no_mount_point_is_left_out() {
        assert_eq!(mounted(&["/proc", "/proc/self"]).unwrap(), [PathBuf::from("/proc")].into());
    }
}
