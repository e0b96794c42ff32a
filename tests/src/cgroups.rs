//! Control groups: each host and each group of processes is in one of its own, in every hierarchy, so that what
//! it starts is found and ended by membership, whoever was killed before writing anything down.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Context, Error, Result};

/// The folder of all clusters in each hierarchy.
const ROOT: &str = "calico-dcos";
/// Mounted where a machine has only cgroup v2, which does not claim the freezer of v1.
const OWN_FREEZER: &str = "/run/calico-dcos-freezer";
/// How long killed processes may take to leave.
const LEAVING: Duration = Duration::from_secs(10);
/// The controllers that hosts get under cgroup v2.
const V2_CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    mount: PathBuf,
    /// The v1 controllers and `name=`, or nothing for v2.
    v1: Option<Vec<String>>,
}

impl Hierarchy {
    fn has(&self, controller: &str) -> bool {
        self.v1.as_ref().is_some_and(|controllers| controllers.iter().any(|name| name == controller))
    }
}

/// The hierarchies of a machine.
#[derive(Debug, Clone)]
pub(crate) struct Hierarchies(Vec<Hierarchy>);

impl Hierarchies {
    /// Those that are mounted now.
    pub fn mounted() -> Result<Self> {
        let table = Path::new("/proc/self/mounts");
        Ok(Self(parse(&fs::read_to_string(table).at("read", table)?)))
    }

    /// Those that are mounted now, and the v1 freezer, which Mesos' launcher needs: mounted when it is not.
    pub fn with_freezer() -> Result<Self> {
        let found = Self::mounted()?;
        if found.0.iter().any(|hierarchy| hierarchy.has("freezer")) {
            return Ok(found);
        }
        let target = Path::new(OWN_FREEZER);
        fs::create_dir_all(target).at("create", target)?;
        let options = c"freezer";
        rustix::mount::mount("cgroup", target, "cgroup", rustix::mount::MountFlags::empty(), options)
            .at("mount the cgroup v1 freezer at", target)?;
        Self::mounted()
    }

    /// Whether Mesos can limit CPU and memory through cgroup v1.
    pub fn has_v1_controllers(&self) -> bool {
        ["cpu", "cpuacct", "memory"].iter().all(|name| self.0.iter().any(|hierarchy| hierarchy.has(name)))
    }

    /// The group `path` (as `cluster/host1`), made in every hierarchy.
    pub fn create(&self, path: &str) -> Result<Group> {
        let group = self.group(path);
        for (hierarchy, folder) in self.0.iter().zip(&group.folders) {
            let mut above = hierarchy.mount.clone();
            for part in Path::new(ROOT).join(path).components() {
                if hierarchy.v1.is_none() {
                    pass_on_controllers(&above);
                }
                above.push(part);
                fs::create_dir_all(&above).at("create", &above)?;
                if hierarchy.has("cpuset") {
                    inherit_cpuset(&above)?;
                }
            }
            debug_assert_eq!(&above, folder);
        }
        Ok(group)
    }

    /// The group `path`, whether it exists or not.
    pub fn group(&self, path: &str) -> Group {
        Group { folders: self.0.iter().map(|hierarchy| hierarchy.mount.join(ROOT).join(path)).collect() }
    }

    /// Removes what all clusters share, when this was the last.
    pub fn remove_shared(&self) {
        for hierarchy in &self.0 {
            // Fails while another cluster is in it, as it should.
            let _ = fs::remove_dir(hierarchy.mount.join(ROOT));
        }
        let freezer = Path::new(OWN_FREEZER);
        if freezer.exists() && !freezer.join(ROOT).exists() {
            let _ = rustix::mount::unmount(freezer, rustix::mount::UnmountFlags::empty());
            let _ = fs::remove_dir(freezer);
        }
    }
}

/// One group, in every hierarchy.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    folders: Vec<PathBuf>,
}

impl Group {
    /// The files into which a process writes its ID to be in this group.
    pub fn procs_files(&self) -> impl Iterator<Item = PathBuf> {
        self.folders.iter().map(|folder| folder.join("cgroup.procs"))
    }

    /// The processes in this group and those below it.
    pub fn processes(&self) -> Vec<u32> {
        let mut found: Vec<u32> = self
            .folders
            .iter()
            .flat_map(|folder| subtree(folder))
            .filter_map(|folder| fs::read_to_string(folder.join("cgroup.procs")).ok())
            .flat_map(|list| list.lines().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Ends every process in the group at once, and waits until they are gone.
    pub fn kill(&self) -> Result<()> {
        let started = Instant::now();
        loop {
            for folder in &self.folders {
                // One write ends all of a v2 group (Linux 5.14); the loop below ends what is elsewhere.
                let _ = fs::write(folder.join("cgroup.kill"), "1");
            }
            let left = self.processes();
            if left.is_empty() {
                return Ok(());
            }
            if started.elapsed() > LEAVING {
                let folder =
                    self.folders.first().map(|folder| folder.display().to_string()).unwrap_or_default();
                return Err(Error::Timeout {
                    what: format!("the end of the processes {left:?}"),
                    limit: LEAVING,
                    hint: format!("they are still in {folder}"),
                });
            }
            for pid in left {
                let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
                if let Some(pid) = pid {
                    // It may be gone already.
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Removes the group, whose processes have ended, and all below it.
    pub fn remove(&self) -> Result<()> {
        for folder in self.folders.iter().flat_map(|folder| subtree(folder).into_iter().rev()) {
            let started = Instant::now();
            loop {
                match fs::remove_dir(&folder) {
                    Ok(()) => break,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
                    // A process that has just been killed is counted until it has left; one that was on its way here when
                    // the others were killed is killed now.
                    Err(error) if error.raw_os_error() == Some(16) && started.elapsed() < LEAVING => {
                        self.kill()?;
                        thread::sleep(Duration::from_millis(10));
                    }
                    Err(error) => return Err(error).at("remove", &folder),
                }
            }
        }
        Ok(())
    }
}

/// A folder and those below it, each before what it holds.
fn subtree(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = vec![folder.to_owned()];
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(subtree(&entry.path()));
        }
    }
    found
}

/// A v1 cpuset takes no process before it has CPUs and memory nodes: those of the group above.
fn inherit_cpuset(folder: &Path) -> Result<()> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let file = folder.join(name);
        if fs::read_to_string(&file).at("read", &file)?.trim().is_empty() {
            let above = folder.join("..").join(name);
            let inherited = fs::read_to_string(&above).at("read", &above)?;
            fs::write(&file, inherited.trim()).at("write", &file)?;
        }
    }
    Ok(())
}

/// Lets the groups below have the controllers that this one has, as far as the kernel allows it: where it does
/// not, as in a container whose root group has processes, hosts run all the same, and limits in them do not bind.
fn pass_on_controllers(folder: &Path) {
    let available = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    for controller in
        V2_CONTROLLERS.iter().filter(|name| available.split_whitespace().any(|one| one == **name))
    {
        let _ = fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

fn parse(mounts: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, mount, kind, options, ..] = fields[..] else { continue };
        let v1 = match kind {
            "cgroup" => {
                let general =
                    ["rw", "ro", "relatime", "nosuid", "nodev", "noexec", "xattr", "clone_children"];
                Some(options.split(',').filter(|name| !general.contains(name)).map(str::to_owned).collect())
            }
            "cgroup2" => None,
            _ => continue,
        };
        // The same hierarchy may be mounted in several places: the first serves.
        if !found.iter().any(|hierarchy| hierarchy.v1 == v1) {
            found.push(Hierarchy { mount: mount.into(), v1 });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_read_from_the_table_of_mounts() {
        let found = parse(
            "proc /proc proc rw 0 0\n\
             cgroup /sys/fs/cgroup/cpu cgroup rw,nosuid,cpu,cpuacct 0 0\n\
             cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,name=systemd 0 0\n\
             cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n\
             cgroup2 /elsewhere cgroup2 rw,relatime 0 0\n",
        );
        assert_eq!(found.len(), 3);
        assert!(found[0].has("cpuacct") && !found[0].has("rw"));
        assert!(found[1].has("name=systemd"));
        assert_eq!(found[2], Hierarchy { mount: "/sys/fs/cgroup/unified".into(), v1: None });
    }

    #[test]
    fn a_machine_with_cgroup_v2_only_has_no_v1_controllers() {
        let v2 = Hierarchies(parse("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"));
        assert!(!v2.has_v1_controllers());
    }

    #[test]
    fn a_folder_comes_before_what_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        let tree = subtree(folder.path());
        assert_eq!(tree, [folder.path().to_owned(), folder.path().join("a"), folder.path().join("a/b")]);
    }
}
