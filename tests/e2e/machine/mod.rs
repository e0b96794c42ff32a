//! What a cluster could leave on the machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Mounts, namespaces, interfaces, control groups, files and processes, one line each.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// The machine now. Of the processes only those that have to do with the clusters `names` are in it,
    /// and nothing is that has to do with clusters of others.
    pub fn take(names: &[&str]) -> Self {
        let mut lines = BTreeSet::new();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        lines.extend(
            mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(|point| format!("mount {point}")),
        );
        let interfaces = output("ip", &["-o", "link"]);
        lines.extend(
            interfaces
                .lines()
                .filter_map(|line| line.split(": ").nth(1))
                .map(|name| format!("interface {name}")),
        );
        let addresses = output("ip", &["-o", "-4", "address"]);
        let address = |line: &str| line.split_whitespace().skip(1).take(3).collect::<Vec<_>>().join(" ");
        lines.extend(addresses.lines().map(|line| format!("address {}", address(line))));
        for folder in ["/run/netns", "/run/calico-dcos", "/var/lib/calico-dcos", "/run/systemd/nspawn"] {
            files(Path::new(folder), 2, &mut lines);
        }
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            files(&hierarchy.path().join("calico-dcos"), 8, &mut lines);
            files(&hierarchy.path().join("payload"), 1, &mut lines);
        }
        for process in fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()) {
            let read = |file| {
                fs::read(process.join(file)).map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "))
            };
            let (Ok(words), Ok(groups)) = (read("cmdline"), read("cgroup")) else { continue };
            let own = process.ends_with(std::process::id().to_string());
            if !own && names.iter().any(|name| words.contains(name) || groups.contains(&format!("/{name}"))) {
                lines.insert(format!("process {} {words}", process.display()));
            }
        }
        let others = others(names);
        lines.retain(|line| !others.iter().any(|other| line.contains(other)));
        if !others.is_empty() {
            // Where the network namespaces of all clusters are.
            lines.remove("mount /run/netns");
        }
        Self(lines)
    }

    /// What is here and was not there.
    pub fn since(&self, before: &Self) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

/// How clusters of others are recognised: by their names and their interfaces.
fn others(names: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for folder in fs::read_dir("/run/calico-dcos").into_iter().flatten().flatten() {
        let name = folder.file_name().into_string().unwrap();
        if names.contains(&name.as_str()) {
            continue;
        }
        if let Ok(text) = fs::read_to_string(folder.path().join("cluster.json"))
            && let Ok(state) = serde_json::from_str::<serde_json::Value>(&text)
        {
            found.push(format!("calico-dcos-{}", state["subnet"]));
        }
        found.push(name);
    }
    found
}

fn files(folder: &Path, depth: u8, lines: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && depth > 1 {
            files(&entry.path(), depth - 1, lines);
        }
        lines.insert(format!("file {}", entry.path().display()));
    }
}

fn output(program: &str, arguments: &[&str]) -> String {
    String::from_utf8(Command::new(program).args(arguments).output().unwrap().stdout).unwrap()
}
