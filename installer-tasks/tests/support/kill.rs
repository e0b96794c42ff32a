//! Kills a program at every point where it changes something, without a hook in the program: strace stops it at a
//! system call, before that is done.
//!
//! The points are enumerated by a run that is not disturbed. strace counts the calls of each process and name by itself,
//! so a point is a name and a number.
//!
//! It knows nothing of the program, and needs nothing but this file. A program in another host's namespaces is run by
//! `nsenter --target PID --mount --net --uts --ipc -- PROGRAM …`, which becomes the program without another process.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// Every call by which something outside the process is changed: files, and what is sent to others (signals, requests to
/// a daemon). Reading calls of the same names are told apart by [`changes`].
const CALLS: &str = "openat,creat,write,writev,pwrite64,rename,renameat,renameat2,link,linkat,symlink,symlinkat,\
                     unlink,unlinkat,rmdir,mkdir,mkdirat,chmod,fchmod,fchmodat,chown,fchown,fchownat,lchown,\
                     truncate,ftruncate,fallocate,utimensat,fsync,fdatasync,syncfs,sendto,sendmsg,kill,tgkill,\
                     pidfd_send_signal,mount,umount2,finit_module,exit_group";

/// A point of a run: before the `number`th call of `call`, from 1 on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The call's name.
    pub call: String,
    /// Which of its calls.
    pub number: usize,
    /// The call as strace shows it.
    pub shown: String,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "before {} {}: {}", self.call, self.number, self.shown)
    }
}

/// The same command, under strace with these options.
pub fn traced(command: &Command, options: &[&str], log: &Path) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-y", "-s", "200", "-e", "signal=none", "-o"]).arg(log);
    strace.args(options).arg("--").arg(command.get_program()).args(command.get_args());
    strace.env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            strace.env(name, value);
        }
    }
    strace
}

/// Runs the command undisturbed, and gives every point at which it changed something, the end among them.
pub fn points(command: &Command, log: &Path) -> (Output, Vec<Point>) {
    let trace = format!("trace={CALLS}");
    let output = traced(command, &["-e", &trace], log).output().expect("strace, which `make deps` installs");
    (output, read(log))
}

/// The points of a program that goes on until it is told to end, which it is when it is `ready`.
pub fn points_until(command: &Command, log: &Path, mut ready: impl FnMut() -> bool) -> Vec<Point> {
    let trace = format!("trace={CALLS}");
    let mut strace =
        traced(command, &["-e", &trace], log).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let ended = ended_or(&mut strace, &mut ready);
    assert!(ended.is_none(), "it ended by itself: {ended:?}");
    signal(&strace, "TERM");
    strace.wait().unwrap();
    read(log)
}

/// Runs such a program and kills it at a point, or else when it is `ready`; says whether it came to the point.
pub fn killed_at_or(command: &Command, point: &Point, log: &Path, mut ready: impl FnMut() -> bool) -> bool {
    let inject = format!("inject={}:signal=KILL:when={}", point.call, point.number);
    let mut strace =
        traced(command, &["-e", &inject], log).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let ended = ended_or(&mut strace, &mut ready);
    if ended.is_none() {
        signal(&strace, "KILL");
        strace.wait().unwrap();
    }
    let _ = std::fs::remove_file(log);
    ended.is_some_and(was_killed)
}

/// How it ended, unless it was `ready` first.
fn ended_or(strace: &mut Child, ready: &mut impl FnMut() -> bool) -> Option<ExitStatus> {
    let since = Instant::now();
    loop {
        if let Some(status) = strace.try_wait().unwrap() {
            return Some(status);
        }
        if ready() {
            return None;
        }
        assert!(since.elapsed() < Duration::from_mins(1), "it neither ends nor becomes ready");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Signals what strace runs.
fn signal(strace: &Child, name: &str) {
    let pid = strace.id();
    let traced = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let status = Command::new("kill").arg(format!("-{name}")).arg(traced.trim()).status().unwrap();
    assert!(status.success(), "kill {traced}");
}

/// The points in strace's log, which is removed.
fn read(log: &Path) -> Vec<Point> {
    let text = std::fs::read_to_string(log).unwrap();
    std::fs::remove_file(log).unwrap();
    let mut counts = BTreeMap::new();
    let mut points = Vec::new();
    for line in text.lines() {
        // PID CALL(ARGUMENTS) = RESULT, with -f; a call that was interrupted by another thread's is resumed later.
        let Some((process, shown)) = line.split_once(' ') else { continue };
        let shown = shown.trim_start();
        let Some((call, _)) = shown.split_once('(') else { continue };
        if call.starts_with("<...") {
            continue;
        }
        let number = counts.entry((process.to_owned(), call.to_owned())).or_insert(0_usize);
        *number += 1;
        if changes(shown) {
            points.push(Point { call: call.to_owned(), number: *number, shown: shown.to_owned() });
        }
    }
    points
}

/// Whether a call, as strace shows it, changes something outside the process.
fn changes(shown: &str) -> bool {
    if shown.contains("<anon_inode:") {
        // The runtime's own.
        return false;
    }
    let opens = shown.starts_with("openat(");
    !opens || ["O_CREAT", "O_TRUNC", "O_WRONLY", "O_RDWR"].iter().any(|flag| shown.contains(flag))
}

/// Runs the command and kills it at a point. When the program does not come to that point, because a run is not always
/// the same, it ends as it would.
pub fn killed_at(command: &Command, point: &Point, log: &Path) -> ExitStatus {
    let inject = format!("inject={}:signal=KILL:when={}", point.call, point.number);
    let status = traced(command, &["-e", &inject], log).output().unwrap().status;
    let _ = std::fs::remove_file(log);
    status
}

impl Point {
    /// Whether it changes a file, or is a request with one of these words in it; not when it only asks or tells something.
    pub fn changes_a_file_or_asks_for(&self, words: &[&str]) -> bool {
        let told = ["(1<", "(2<"].iter().any(|end| self.shown.contains(end));
        let of_socket = self.shown.contains("<socket:") || self.shown.contains("<UNIX");
        !told && (!of_socket || words.iter().any(|word| self.shown.contains(word)))
    }

    /// The file that is changed, if it is below `root`: `write(5</path>, …`, `mkdir("/path", …`.
    pub fn path_below(&self, root: &Path) -> Option<PathBuf> {
        // What is said on standard error may begin with a path, too.
        let after = |open: &str, close: char| {
            let (_, rest) = self.shown.split_once(open)?;
            Some(PathBuf::from(format!("/{}", rest.split_once(close)?.0)))
        };
        let path = if self.call == "mkdir" { after("(\"/", '"') } else { after("</", '>') };
        path.filter(|path| path.starts_with(root))
    }
}

/// Runs the command; from the `from`th call of `call` on one of `paths` on, each such call fails with `error`.
pub fn failing_from(
    command: &Command,
    call: &str,
    from: usize,
    error: &str,
    paths: &[PathBuf],
    log: &Path,
) -> Output {
    let inject = format!("inject={call}:error={error}:when={from}+");
    let mut options = vec!["-e", &inject];
    for path in paths {
        options.extend(["-P", path.to_str().unwrap()]);
    }
    let output = traced(command, &options, log).output().unwrap();
    let _ = std::fs::remove_file(log);
    output
}

/// Whether it was killed; strace ends as its program does.
pub fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9) || status.code() == Some(128 + 9)
}

/// Kills the command at each of its points, and calls `after` with each. Says at how many it was killed: how many
/// points there were, for the test's output. `before` brings everything to where the command begins.
pub fn at_every_point(
    log: &Path,
    before: impl Fn(),
    command: impl Fn() -> Command,
    after: impl FnMut(&Point),
) -> usize {
    at_points(log, before, command, |_| true, after)
}

/// The same, at the points that are of `interest` only: where many change nothing that is looked at.
pub fn at_points(
    log: &Path,
    before: impl Fn(),
    command: impl Fn() -> Command,
    interest: impl Fn(&Point) -> bool,
    mut after: impl FnMut(&Point),
) -> usize {
    before();
    let (output, mut points) = points(&command(), log);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    points.retain(interest);
    let mut killed = 0;
    for point in &points {
        before();
        let status = killed_at(&command(), point, log);
        assert!(was_killed(status) || status.success(), "{point}: {status}");
        killed += usize::from(was_killed(status));
        after(point);
    }
    assert!(killed * 10 >= points.len() * 9, "killed at {killed} of {} points only", points.len());
    killed
}
