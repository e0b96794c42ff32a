//! The files that make a copy of the base image one host: pure texts, by path.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use crate::spec::HostKind;

/// Runs before everything else in a host.
const SETUP: &str = "/usr/local/sbin/host-setup";
/// Where a host of a machine without cgroup v1 hierarchies mounts the freezer.
const OWN_HIERARCHIES: &str = "/run/cgroup-v1";
/// The ports of a private DC/OS agent.
const PRIVATE_PORTS: &str = "ports:[1025-2180,2182-3887,3889-5049,5052-8079,8082-8180,8182-32000]";
/// The ports of a public DC/OS agent.
const PUBLIC_PORTS: &str = "ports:[1-21,23-5050,5052-32000]";
/// What each agent offers: not what the machine has, which all of them share.
const RESOURCES: &str = "cpus:4;mem:4096;disk:8192";

/// Units that a container has no use for; without them it boots in half the time.
const UNWANTED: [&str; 7] = [
    "console-getty.service",
    "dev-hugepages.mount",
    "e2scrub_reap.service",
    "modprobe@.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-logind.service",
];

/// All that a host's files depend on.
#[derive(Debug)]
pub(crate) struct HostFiles<'a> {
    pub name: &'a str,
    pub address: Ipv4Addr,
    pub gateway: Ipv4Addr,
    pub kind: HostKind,
    /// `host:port`, or `zk://…`.
    pub master: &'a str,
    /// The registry that dockerd may use without TLS.
    pub registry: &'a str,
    pub agent_env: &'a BTreeMap<String, String>,
    /// Whether the host sees the v1 controllers; else it mounts the v1 freezer for itself.
    pub v1_controllers: bool,
    /// Capabilities that this machine lacks altogether, as `CAP_…`.
    pub missing_capabilities: &'a [String],
}

/// A file to be written; programs are executable.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HostFile {
    pub path: String,
    pub content: String,
    pub program: bool,
}

impl HostFiles<'_> {
    /// The unit of the Mesos agent.
    pub fn agent_unit(&self) -> &'static str {
        agent_unit(self.kind)
    }

    /// The folders of plugins and of network configurations. The agent wants all of them to exist.
    fn cni_folders(&self) -> ([&'static str; 3], &'static str) {
        if self.kind == HostKind::DcOs {
            let mesos = "/opt/mesosphere/active/mesos/libexec/mesos";
            (
                ["/opt/mesosphere/active/cni", "/opt/mesosphere/active/dcos-cni", mesos],
                "/opt/mesosphere/etc/dcos/network/cni",
            )
        } else {
            (["/opt/cni/bin", "/usr/lib/cni", ""], "/etc/cni/net.d")
        }
    }

    fn plugin_folders(&self) -> impl Iterator<Item = &'static str> {
        self.cni_folders().0.into_iter().filter(|folder| !folder.is_empty())
    }

    /// The folders that exist before anything starts; those of CNI where the agent is told of them.
    pub fn folders(&self) -> Vec<&'static str> {
        let has_cni = self.agent_settings().contains_key("MESOS_NETWORK_CNI_CONFIG_DIR");
        let of_cni = self.plugin_folders().chain([self.cni_folders().1]).filter(|_| has_cni);
        of_cni.chain(["/var/log/journal"]).collect()
    }

    /// Symbolic links: (path, target).
    pub fn links(&self) -> Vec<(String, String)> {
        let wanted = |unit: &str| {
            (format!("/etc/systemd/system/multi-user.target.wants/{unit}"), format!("../{unit}"))
        };
        let masked = |unit: &&str| (format!("/etc/systemd/system/{unit}"), "/dev/null".to_owned());
        let enabled = ["host-setup.service", self.agent_unit()];
        enabled.into_iter().map(wanted).chain(UNWANTED.iter().map(masked)).collect()
    }

    /// Every file.
    pub fn files(&self) -> Vec<HostFile> {
        let text = |path: &str, content| HostFile { path: path.to_owned(), content, program: false };
        let program = |path: &str, content| HostFile { path: path.to_owned(), content, program: true };
        let mut files = vec![
            text("/etc/hostname", format!("{}\n", self.name)),
            text("/etc/hosts", format!("127.0.0.1 localhost\n{} {}\n", self.address, self.name)),
            program(SETUP, self.setup()),
            text("/etc/systemd/system/host-setup.service", SETUP_UNIT.to_owned()),
            text("/etc/systemd/system/docker.service.d/cluster.conf", self.docker_drop_in()),
            text(&format!("/etc/systemd/system/{}", self.agent_unit()), self.agent_unit_file()),
        ];
        if self.kind == HostKind::Packaged {
            files.push(program(INIT_WRAPPER, INIT_WRAPPER_SCRIPT.to_owned()));
            let (variables, flags): (BTreeMap<_, _>, BTreeMap<_, _>) =
                self.agent_settings().into_iter().partition(|(name, _)| is_variable(name));
            files.push(text(self.agent_env_path(), env_file(&variables)));
            files.extend(flags.into_iter().map(|(name, value)| {
                let flag = name.trim_start_matches("MESOS_").to_lowercase();
                text(&format!("/etc/mesos-slave/{flag}"), format!("{value}\n"))
            }));
        } else {
            files.push(text(self.agent_env_path(), env_file(&self.agent_settings())));
        }
        if !self.missing_capabilities.is_empty() {
            files.push(program("/usr/local/sbin/runc", runc_wrapper(self.missing_capabilities)));
        }
        files
    }

    fn setup(&self) -> String {
        let hierarchies = if self.v1_controllers {
            // systemd-nspawn mounts them read-only; dockerd and the Mesos agent write to them.
            "while read -r _ folder kind _; do\n  \
               [ \"$kind\" != cgroup ] || mount -o remount,bind,rw \"$folder\"\n\
             done </proc/mounts"
                .to_owned()
        } else {
            format!(
                "mkdir -p {OWN_HIERARCHIES}/freezer\nmount -t cgroup -o freezer cgroup {OWN_HIERARCHIES}/freezer"
            )
        };
        let Self { address, gateway, .. } = self;
        format!(
            "#!/bin/sh\nset -eu\n{hierarchies}\nip link set host0 up\nip address add {address}/24 dev host0\n\
             ip route add default via {gateway}\n"
        )
    }

    fn docker_drop_in(&self) -> String {
        format!(
            "[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock \
             --storage-driver=vfs --insecure-registry={}\n",
            self.registry
        )
    }

    fn agent_unit_file(&self) -> String {
        // KillMode: executors and their tasks outlive an agent that is stopped.
        let start = if self.kind == HostKind::Packaged {
            format!("ExecStart={INIT_WRAPPER} slave")
        } else {
            format!("EnvironmentFile={}\nExecStart={AGENT}", self.agent_env_path())
        };
        format!(
            "[Unit]\nDescription=Mesos Agent\nAfter=host-setup.service\nStartLimitIntervalSec=0\n\n\
             [Service]\n{start}\n\
             Restart=always\nRestartSec=2\nKillMode=process\nLimitNOFILE=65536\n\n\
             [Install]\nWantedBy=multi-user.target\n"
        )
    }

    fn agent_env_path(&self) -> &'static str {
        match self.kind {
            HostKind::DcOs => "/opt/mesosphere/etc/mesos-slave-common",
            HostKind::Mesos | HostKind::Public => "/etc/mesos-agent.env",
            HostKind::Packaged => "/etc/default/mesos-slave",
            HostKind::PackagedPublic => "/etc/default/mesos-agent",
        }
    }

    fn agent_settings(&self) -> BTreeMap<String, String> {
        let address = self.address.to_string();
        let (limits, hierarchy) = if self.v1_controllers {
            ("cgroups/cpu,cgroups/mem", "/sys/fs/cgroup")
        } else {
            ("posix/cpu,posix/mem", OWN_HIERARCHIES)
        };
        let plugins: Vec<_> = self.plugin_folders().collect();
        let settings = [
            ("LIBPROCESS_IP", address.clone()),
            ("LIBPROCESS_PORT", "5051".to_owned()),
            ("MESOS_PORT", "5051".to_owned()),
            ("MESOS_HOSTNAME", address),
            ("MESOS_MASTER", self.master.to_owned()),
            ("MESOS_WORK_DIR", "/var/lib/mesos/slave".to_owned()),
            ("MESOS_RUNTIME_DIR", "/run/mesos".to_owned()),
            ("MESOS_CONTAINERIZERS", "mesos".to_owned()),
            ("MESOS_LAUNCHER", "linux".to_owned()),
            ("MESOS_LAUNCHER_DIR", "/opt/mesos-helpers".to_owned()),
            ("MESOS_CGROUPS_HIERARCHY", hierarchy.to_owned()),
            ("MESOS_CGROUPS_ROOT", format!("{}/mesos", self.name)),
            ("MESOS_SYSTEMD_ENABLE_SUPPORT", "false".to_owned()),
            ("MESOS_HTTP_COMMAND_EXECUTOR", "true".to_owned()),
            ("MESOS_ISOLATION", format!("{limits},filesystem/linux")),
            ("MESOS_NETWORK_CNI_PLUGINS_DIR", plugins.join(":")),
            ("MESOS_NETWORK_CNI_CONFIG_DIR", self.cni_folders().1.to_owned()),
            ("MESOS_EXECUTOR_REREGISTRATION_TIMEOUT", "5secs".to_owned()),
            ("MESOS_REGISTRATION_BACKOFF_FACTOR", "100ms".to_owned()),
            ("MESOS_RESOURCES", format!("{RESOURCES};{PRIVATE_PORTS}")),
        ];
        let mut settings: BTreeMap<String, String> =
            settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let special: &[(&str, String)] = match self.kind {
            HostKind::Mesos | HostKind::Packaged => &[],
            HostKind::DcOs => &[
                ("MESOS_ISOLATION", format!("{limits},filesystem/linux,namespaces/pid")),
                ("MESOS_DISALLOW_SHARING_AGENT_PID_NAMESPACE", "true".to_owned()),
            ],
            HostKind::Public | HostKind::PackagedPublic => &[
                ("MESOS_DEFAULT_ROLE", "slave_public".to_owned()),
                ("MESOS_ATTRIBUTES", "public_ip:true".to_owned()),
                ("MESOS_RESOURCES", format!("{RESOURCES};{PUBLIC_PORTS}")),
            ],
        };
        settings.extend(special.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        settings.extend(self.agent_env.clone());
        settings.retain(|_, value| !value.is_empty());
        settings
    }
}

/// The unit of the Mesos agent on a host of this kind.
pub(crate) fn agent_unit(kind: HostKind) -> &'static str {
    match kind {
        HostKind::DcOs | HostKind::Mesos => "dcos-mesos-slave.service",
        HostKind::Public => "dcos-mesos-slave-public.service",
        HostKind::Packaged => "mesos-slave.service",
        HostKind::PackagedPublic => "mesos-agent.service",
    }
}

/// Whether a setting must be a variable: libprocess' own, and those that the agent's launcher asks for.
fn is_variable(name: &str) -> bool {
    name.starts_with("LIBPROCESS_") || ["MESOS_MASTER", "MESOS_WORK_DIR"].contains(&name)
}

fn env_file(settings: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (name, value) in settings {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        let _ = writeln!(text, "{name}=\"{value}\"");
    }
    text
}

/// The agent's program.
const AGENT: &str = "/opt/mesos/bin/mesos-agent";
/// Starts the agent as the packages of Mesos do: with the variables of files in /etc/default, and a flag for each file in
/// /etc/mesos-slave.
const INIT_WRAPPER: &str = "/usr/bin/mesos-init-wrapper";
const INIT_WRAPPER_SCRIPT: &str = r#"#!/bin/bash
set -euo pipefail
role=$1
set -o allexport
for file in /etc/default/mesos "/etc/default/mesos-$role"; do
  if [ -f "$file" ]; then . "$file"; fi
done
set +o allexport
flags=()
for file in "/etc/mesos-$role"/*; do
  name=${file##*/}
  case $name in
    '?'*) flags+=("--${name#'?'}") ;;
    *) [ ! -f "$file" ] || flags+=("--$name=$(cat "$file")") ;;
  esac
done
exec /opt/mesos/bin/mesos-agent "${flags[@]}"
"#;

const SETUP_UNIT: &str = "[Unit]\nDescription=Control groups and address of this host\nDefaultDependencies=no\n\
    Before=network.target docker.service containerd.service\n\n\
    [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/local/sbin/host-setup\n\n\
    [Install]\nWantedBy=multi-user.target\n";

/// Takes capabilities that nobody on this machine has out of each container's configuration: runc would fail.
fn runc_wrapper(missing: &[String]) -> String {
    let edits = missing
        .iter()
        .fold(String::new(), |edits, name| edits + &format!(" -e 's/\"{name}\",//g; s/,\"{name}\"//g'"));
    format!(
        "#!/bin/sh\nbefore=\nfor word; do\n  \
         [ \"$before\" != --bundle ] || sed -i{edits} \"$word/config.json\"\n  before=$word\n\
         done\nexec /usr/sbin/runc \"$@\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(kind: HostKind, agent_env: &BTreeMap<String, String>) -> HostFiles<'_> {
        HostFiles {
            name: "t-host1",
            address: Ipv4Addr::new(10, 87, 0, 11),
            gateway: Ipv4Addr::new(10, 87, 0, 1),
            kind,
            master: "10.87.0.1:5050",
            registry: "10.87.0.1:8080",
            agent_env,
            v1_controllers: true,
            missing_capabilities: &[],
        }
    }

    fn content(host: &HostFiles<'_>, path: &str) -> String {
        host.files().into_iter().find(|file| file.path == path).unwrap().content
    }

    #[test]
    fn the_first_host_is_set_up_as_dcos_does() {
        let none = BTreeMap::new();
        let host = host(HostKind::DcOs, &none);
        let env = content(&host, "/opt/mesosphere/etc/mesos-slave-common");
        assert!(
            env.contains("namespaces/pid")
                && env.contains("MESOS_DISALLOW_SHARING_AGENT_PID_NAMESPACE=\"true\"")
        );
        let plugins = env.lines().find(|line| line.starts_with("MESOS_NETWORK_CNI_PLUGINS_DIR=")).unwrap();
        assert_eq!(plugins.matches('/').count() > 3, plugins.split(':').count() == 3);
        for folder in plugins.split('"').nth(1).unwrap().split(':') {
            assert!(host.folders().contains(&folder), "the agent exits when {folder} is missing");
        }
    }

    #[test]
    fn the_public_host_has_its_own_unit_role_and_attribute() {
        let none = BTreeMap::new();
        let host = host(HostKind::Public, &none);
        assert!(
            content(&host, "/etc/systemd/system/dcos-mesos-slave-public.service")
                .contains("KillMode=process")
        );
        assert!(host.links().iter().any(|(_, target)| target == "../dcos-mesos-slave-public.service"));
        let env = content(&host, "/etc/mesos-agent.env");
        assert!(
            env.contains("MESOS_DEFAULT_ROLE=\"slave_public\"")
                && env.contains("MESOS_ATTRIBUTES=\"public_ip:true\"")
        );
    }

    #[test]
    fn packaged_hosts_have_their_settings_where_the_packages_have_them() {
        let none = BTreeMap::from(
            ["PLUGINS", "CONFIG"].map(|it| (format!("MESOS_NETWORK_CNI_{it}_DIR"), String::new())),
        );
        let packaged = host(HostKind::Packaged, &none);
        let unit = content(&packaged, "/etc/systemd/system/mesos-slave.service");
        assert!(
            unit.contains("ExecStart=/usr/bin/mesos-init-wrapper slave\n") && !unit.contains("Environment")
        );
        assert_eq!(content(&packaged, "/etc/mesos-slave/port"), "5051\n");
        let variables = content(&packaged, "/etc/default/mesos-slave");
        assert!(variables.contains("MESOS_MASTER=") && !variables.contains("MESOS_PORT="), "{variables}");
        let has_cni = |host: &HostFiles<'_>| {
            let files = host.files();
            files.iter().any(|file| file.path.contains("cni") || file.content.contains("NETWORK_CNI"))
                || host.folders().iter().any(|folder| folder.contains("cni"))
        };
        assert!(!has_cni(&packaged), "an empty setting is none");
        assert!(has_cni(&host(HostKind::Packaged, &BTreeMap::new())));
        let public = host(HostKind::PackagedPublic, &none);
        assert!(content(&public, "/etc/default/mesos-agent").contains("MESOS_DEFAULT_ROLE=\"slave_public\""));
        assert!(
            content(&public, "/etc/systemd/system/mesos-agent.service").contains("/etc/default/mesos-agent")
        );
        assert!(!has_cni(&public));
    }

    #[test]
    fn settings_that_were_asked_for_win_and_are_quoted() {
        let asked = BTreeMap::from([
            ("MESOS_RESOURCES".to_owned(), r#"[{"name":"cpus"}]"#.to_owned()),
            ("MESOS_X".to_owned(), r"a\b".to_owned()),
        ]);
        let env = content(&host(HostKind::Mesos, &asked), "/etc/mesos-agent.env");
        assert!(env.contains(r#"MESOS_RESOURCES="[{\"name\":\"cpus\"}]""#), "{env}");
        assert!(env.contains(r#"MESOS_X="a\\b""#), "{env}");
    }

    #[test]
    fn without_v1_controllers_the_host_mounts_the_freezer_and_mesos_uses_it() {
        let none = BTreeMap::new();
        let host = HostFiles { v1_controllers: false, ..host(HostKind::Mesos, &none) };
        assert!(content(&host, SETUP).contains("mount -t cgroup -o freezer cgroup /run/cgroup-v1/freezer"));
        let env = content(&host, "/etc/mesos-agent.env");
        assert!(
            env.contains("MESOS_CGROUPS_HIERARCHY=\"/run/cgroup-v1\"") && env.contains("posix/cpu,posix/mem")
        );
    }

    #[test]
    fn runc_is_wrapped_only_where_capabilities_are_missing() {
        let none = BTreeMap::new();
        let plain = host(HostKind::Mesos, &none);
        assert!(!plain.files().iter().any(|file| file.path.ends_with("runc")));
        let lacking = HostFiles { missing_capabilities: &["CAP_SYS_RESOURCE".to_owned()], ..plain };
        assert!(content(&lacking, "/usr/local/sbin/runc").contains("s/\"CAP_SYS_RESOURCE\",//g"));
    }
}
