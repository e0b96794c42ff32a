//! Processes that outlive us: started in a control group and a session of their own, known by ID and start time.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::cgroups::Group;
use crate::command::{run, wait_until};
use crate::error::{Context, Error, Result};

/// A shell joins the control groups whose files come before `--`, and becomes the program after it.
const JOIN: &str = r#"while [ "$1" != -- ]; do echo $$ >"$1" || exit 125; shift; done; shift; exec "$@""#;
/// The same, but the program goes on in a session of its own and the shell tells its process ID.
const DETACH: &str = r#"log=$1; shift; while [ "$1" != -- ]; do echo $$ >"$1" || exit 125; shift; done; shift
setsid "$@" </dev/null >>"$log" 2>&1 & echo $!"#;

/// A process: an ID alone may be another's by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub pid: u32,
    /// In clock ticks since boot, from `/proc/PID/stat`.
    pub started: u64,
}

impl Identity {
    /// The process that has this ID now.
    pub fn of(pid: u32) -> Option<Self> {
        let (state, started) = stat(pid)?;
        (!"ZX".contains(state)).then_some(Self { pid, started })
    }

    /// This process.
    pub fn own() -> Result<Self> {
        Self::of(std::process::id())
            .ok_or_else(|| Error::Invalid("/proc is not mounted: mount it".to_owned()))
    }

    /// Whether it still runs.
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal; a process that is gone gets none.
    pub fn signal(self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        match pid.filter(|_| self.is_alive()).map(|pid| kill_process(pid, signal)) {
            None | Some(Ok(()) | Err(rustix::io::Errno::SRCH)) => Ok(()),
            Some(Err(error)) => Err(error).context(|| format!("cannot signal process {}", self.pid)),
        }
    }

    /// Waits until it is gone.
    pub fn wait_gone(self, limit: Duration) -> Result<()> {
        wait_until(&format!("the end of process {}", self.pid), limit, || {
            Ok(if self.is_alive() { Err("it still runs".to_owned()) } else { Ok(()) })
        })
    }

    /// Its children.
    pub fn children(self) -> Vec<u32> {
        let path = format!("/proc/{0}/task/{0}/children", self.pid);
        let list = fs::read_to_string(path).unwrap_or_default();
        list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }
}

/// State and start time of a process.
fn stat(pid: u32) -> Option<(char, u64)> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name, in parentheses, may hold blanks and parentheses itself.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    Some((fields.first()?.chars().next()?, fields.get(19)?.parse().ok()?))
}

/// A program that runs as our child, in a control group.
pub(crate) fn joined<S: AsRef<OsStr>>(group: &Group, words: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", JOIN, "join"]).args(group.procs_files()).arg("--").args(words);
    command
}

/// Starts `program` in a control group and a session of its own; it writes to `log`, and does not end with us.
pub(crate) fn detach(group: &Group, log: &Path, program: &Command) -> Result<Identity> {
    let mut command = Command::new("sh");
    command.args(["-c", DETACH, "detach"]).arg(log).args(group.procs_files()).arg("--");
    command.arg(program.get_program()).args(program.get_args()).stdin(Stdio::null());
    copy_surroundings(program, &mut command);
    let output = run(&mut command)?;
    let told = String::from_utf8_lossy(&output.stdout);
    told.trim().parse().ok().and_then(Identity::of).ok_or_else(|| Error::Command {
        command: crate::command::text(program),
        status: "an early end".to_owned(),
        output: crate::command::last_lines(&fs::read_to_string(log).unwrap_or_default(), 15),
    })
}

/// `program` in a network namespace, with the same arguments, environment and folder.
pub(crate) fn in_netns(netns: &Path, program: &Command) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", netns.display()))
        .arg("--")
        .arg(program.get_program())
        .args(program.get_args());
    copy_surroundings(program, &mut command);
    command
}

/// Gives a command the environment and the folder that another was given.
pub(crate) fn copy_surroundings(from: &Command, to: &mut Command) {
    for (name, value) in from.get_envs() {
        match value {
            Some(value) => to.env(name, value),
            None => to.env_remove(name),
        };
    }
    if let Some(folder) = from.get_current_dir() {
        to.current_dir(folder);
    }
}

/// Puts an executable file at `target` by way of a temporary name.
pub(crate) fn install(source: &Path, target: &Path) -> Result<()> {
    let part = target.with_extension("part");
    fs::copy(source, &part).at("copy", source)?;
    fs::set_permissions(&part, fs::Permissions::from_mode(0o755)).at("make executable", &part)?;
    fs::rename(&part, target).at("write", target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_too() {
        let own = Identity::own().unwrap();
        assert!(own.is_alive());
        assert!(!Identity { started: own.started + 1, ..own }.is_alive(), "another process of the same ID");
    }

    #[test]
    fn a_zombie_is_no_process() {
        let mut child = Command::new("true").spawn().unwrap();
        wait_until("the end", Duration::from_secs(5), || {
            Ok(if Identity::of(child.id()).is_none() { Ok(()) } else { Err(String::new()) })
        })
        .unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn names_with_parentheses_do_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1000 1";
        assert_eq!(parse_stat(stat), Some(('S', 4242)));
    }
}
