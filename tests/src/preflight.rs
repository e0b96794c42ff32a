//! What the machine must have, looked at before anything is changed; all that is missing is told at once.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};
use crate::{base_image, mesos_build};

/// Programs that every cluster needs: (program, Debian package).
const ALWAYS: [(&str, &str); 8] = [
    ("systemd-nspawn", "systemd-container"),
    ("ip", "iproute2"),
    ("bridge", "iproute2"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("setsid", "util-linux"),
    ("setpriv", "util-linux"),
    ("chroot", "coreutils"),
];
/// Programs that build the base image.
const FOR_BASE: [(&str, &str); 1] = [("debootstrap", "debootstrap")];
/// Programs that build Mesos.
const FOR_MESOS: [(&str, &str); 4] =
    [("bash", "bash"), ("gcc", "gcc"), ("g++", "g++"), ("python3", "python3 python3-pip")];
/// Capabilities without which root is none, by number.
const CAPABILITIES: [(&str, u32); 3] = [("CAP_NET_ADMIN", 12), ("CAP_SYS_CHROOT", 18), ("CAP_SYS_ADMIN", 21)];
/// `statfs` says this of an overlay, which cannot hold the writable layer of another.
const OVERLAY_MAGIC: u64 = 0x794c_7630;

/// Checks that a cluster can run here.
pub fn check() -> Result<()> {
    let mut missing = Vec::new();
    let mut need = |holds: bool, what: &str| {
        if !holds {
            missing.push(what.to_owned());
        }
    };
    need(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "a Linux machine with an x86_64 processor: Mesos is built for it",
    );
    let root = rustix::process::geteuid().is_root();
    need(root, "root: run it as root (`sudo`)");
    if root {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        for name in lacking_capabilities(&status) {
            need(
                false,
                &format!(
                    "{name}: root has it not in this container; run on the machine itself, or with all privileges"
                ),
            );
        }
    }
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    need(
        knows(&filesystems, "overlay") || loadable("overlay"),
        "the file system 'overlay' in the kernel: `modprobe overlay`, or a kernel that has it (CONFIG_OVERLAY_FS)",
    );
    need(
        has_freezer(&fs::read_to_string("/proc/cgroups").unwrap_or_default()),
        "the cgroup v1 freezer in the kernel, which Mesos needs beside cgroup v2 too: \
         boot without `cgroup_no_v1=`, or with a kernel that has it (CONFIG_CGROUP_FREEZER, see /proc/cgroups)",
    );
    let disks = nearest_existing(Path::new("/var/lib/calico-dcos"));
    need(
        rustix::fs::statfs(disks)
            .is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|kind| kind != OVERLAY_MAGIC)),
        "a file system other than 'overlay' under /var/lib/calico-dcos: in a container, mount a volume there",
    );
    let mut programs = ALWAYS.to_vec();
    if !base_image::cached().exists() {
        programs.extend(FOR_BASE);
    }
    if !mesos_build::cached().exists() {
        programs.extend(FOR_MESOS);
    }
    for (program, package) in programs {
        need(
            in_path(program),
            &format!("the program '{program}': on Debian `apt-get install {package}` (or `make deps`)"),
        );
    }
    if missing.is_empty() { Ok(()) } else { Err(Error::Missing(missing)) }
}

fn lacking_capabilities(status: &str) -> Vec<&'static str> {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = set.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or_default();
    CAPABILITIES.iter().filter(|(_, number)| set & (1 << number) == 0).map(|(name, _)| *name).collect()
}

fn knows(filesystems: &str, name: &str) -> bool {
    filesystems.lines().any(|line| line.split_whitespace().last() == Some(name))
}

fn loadable(module: &str) -> bool {
    crate::command::command("modprobe", ["--dry-run", "--quiet", module])
        .status()
        .is_ok_and(|status| status.success())
}

/// `/proc/cgroups` lists name, hierarchy, number of groups, enabled: for v1 and v2 alike.
fn has_freezer(cgroups: &str) -> bool {
    cgroups.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.first() == Some(&"freezer") && fields.get(3) == Some(&"1")
    })
}

fn nearest_existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(path)
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_freezer_must_be_enabled() {
        assert!(has_freezer("#subsys_name\thierarchy\tnum_cgroups\tenabled\nfreezer\t6\t3\t1\n"));
        assert!(!has_freezer("freezer\t6\t3\t0\n"));
        assert!(!has_freezer("cpu\t6\t3\t1\n"));
    }

    #[test]
    fn root_of_a_container_is_told_what_it_lacks() {
        assert_eq!(lacking_capabilities("CapEff:\t00000000a80425fb\n"), ["CAP_NET_ADMIN", "CAP_SYS_ADMIN"]);
        assert!(lacking_capabilities("CapEff:\t000001ffffffffff\n").is_empty());
    }

    #[test]
    fn file_systems_are_known_by_their_whole_name() {
        assert!(knows("nodev\toverlay\n\text4\n", "overlay"));
        assert!(!knows("nodev\toverlayx\n", "overlay"));
    }
}
