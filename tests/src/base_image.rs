//! The base image: the Debian root file system under every host and under etcd, ZooKeeper and the masters.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::{Build, Cached};
use crate::command::command;
use crate::error::{Context, Result};
use crate::progress::Progress;

/// Debian 12: its Docker is 20.10, the last line with a cluster store.
const SUITE: &str = "bookworm";
/// Hosts: Docker, the CNI plugins, tools. Services: etcd, ZooKeeper. Mesos: the libraries that it is linked with.
const PACKAGES: &str = "docker.io iptables iproute2 iputils-ping kmod procps curl ca-certificates \
    containernetworking-plugins etcd-server etcd-client libzookeeper-java default-jre-headless \
    libsvn1 libapr1 libsasl2-2 libsasl2-modules libcurl4 zlib1g";
/// Runs in the new root. Nothing is started, now or at boot, that a host does not want.
const INSTALL: &str = r#"set -eu
mount -t proc proc /proc
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod +x /usr/sbin/policy-rc.d
apt-get update -q
apt-get install -y -q --no-install-recommends "$@"
rm /usr/sbin/policy-rc.d
systemctl disable etcd
systemctl mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer logrotate.timer systemd-timesyncd.service
apt-get clean
rm -rf /var/lib/apt/lists/* /usr/share/doc/* /usr/share/man/* /usr/share/locale/*
: >/etc/resolv.conf
: >/etc/machine-id
rm -f /etc/hostname
"#;

/// The cached base image.
pub(crate) fn cached() -> Cached {
    Cached::new("base image", "base", [SUITE, PACKAGES, INSTALL])
}

/// The folder of the base image, built when it is not there.
pub(crate) fn get(progress: &Progress) -> Result<PathBuf> {
    cached().get(progress, build)
}

fn build(build: &Build<'_>) -> Result<()> {
    // The image becomes the root folder of the hosts.
    fs::set_permissions(build.folder, fs::Permissions::from_mode(0o755)).at("make readable", build.folder)?;
    let mut debootstrap =
        command("debootstrap", ["--variant=minbase", "--include=systemd,systemd-sysv,dbus", SUITE]);
    debootstrap.arg(build.folder);
    if let Some(mirror) = mirror() {
        debootstrap.arg(mirror);
    }
    build.step("debootstrap", proxied(&mut debootstrap))?;
    // The new root reaches the mirror as the machine does.
    copy_into(build.folder, "/etc/resolv.conf")?;
    copy_into(build.folder, "/etc/ssl/certs/ca-certificates.crt")?;
    let mut install = command("chroot", [build.folder]);
    install.args(["sh", "-c", INSTALL, "install"]).args(PACKAGES.split_whitespace());
    build.step("installing Docker, etcd, ZooKeeper and libraries", proxied(&mut install))
}

fn copy_into(root: &Path, file: &str) -> Result<()> {
    let (source, target) = (Path::new(file), root.join(&file[1..]));
    if !source.exists() {
        return Ok(());
    }
    if let Some(folder) = target.parent() {
        crate::paths::create_folder(folder)?;
    }
    let content = fs::read(source).at("read", source)?;
    fs::write(&target, content).at("write", &target)
}

/// The mirror that this machine's apt uses; without one debootstrap knows its own.
fn mirror() -> Option<String> {
    let folder =
        fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = folder.collect();
    files.sort();
    files.insert(0, "/etc/apt/sources.list".into());
    files.iter().filter_map(|file| fs::read_to_string(file).ok()).find_map(|text| mirror_in(&text))
}

/// The first Debian archive in a file of apt sources, in the one-line or the deb822 form.
fn mirror_in(sources: &str) -> Option<String> {
    let lines = sources.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines
        .filter(|line| line.starts_with("deb ") || line.to_ascii_lowercase().starts_with("uris:"))
        .flat_map(str::split_whitespace)
        .filter(|word| word.starts_with("http://") || word.starts_with("https://"))
        .find(|uri| uri.trim_end_matches('/').ends_with("/debian"))
        .map(str::to_owned)
}

/// Gives a program the proxy that apt is set up for, unless the environment has one.
fn proxied(program: &mut Command) -> &mut Command {
    for (scheme, variable) in [("http", "http_proxy"), ("https", "https_proxy")] {
        if std::env::var_os(variable).is_some() {
            continue;
        }
        let setting = format!("PROXY Acquire::{scheme}::Proxy");
        let asked = command("apt-config", std::iter::once("shell").chain(setting.split(' '))).output();
        let answer =
            asked.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        if let Some(proxy) = answer.trim().strip_prefix("PROXY='").and_then(|rest| rest.strip_suffix('\'')) {
            program.env(variable, proxy);
        }
    }
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_found_in_both_forms() {
        let one_line =
            "# deb http://old/debian x main\ndeb [signed-by=/k] http://mirror.test/debian bookworm main\n";
        assert_eq!(mirror_in(one_line).as_deref(), Some("http://mirror.test/debian"));
        let deb822 = "Types: deb\nURIs: https://mirror.test/debian/\nSuites: bookworm\n";
        assert_eq!(mirror_in(deb822).as_deref(), Some("https://mirror.test/debian/"));
    }

    #[test]
    fn security_updates_and_other_packages_are_no_mirror() {
        let sources = "URIs: http://mirror.test/debian-security\ndeb https://packages.test/apt sdk main\n";
        assert_eq!(mirror_in(sources), None);
    }
}
