//! Processes of the task and of its checks: how they are started, signalled and described.

use std::{collections::BTreeSet, fs, io, os::unix::process::ExitStatusExt as _, process::ExitStatus};

use mesos_v1::{CommandInfo, environment::variable};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;

use super::settings::TaskEnvironment;

/// The command that `info` describes, in a process group of its own. It inherits this process's
/// standard streams, directory and environment, to which `extra` and then the command's own
/// variables are added. `None` without a value.
pub fn command(info: &CommandInfo, extra: &TaskEnvironment) -> Option<Command> {
    let value = info.value.as_deref()?;
    let mut command;
    if info.shell() {
        command = Command::new("/bin/sh");
        command.arg0("sh").args(["-c", value]);
    } else {
        command = Command::new(value);
        if let Some((name, arguments)) = info.arguments.split_first() {
            command.arg0(name).args(arguments);
        }
    }
    command.envs(extra);
    let variables = info.environment.iter().flat_map(|e| &e.variables);
    for variable in variables.filter(|v| v.r#type() != variable::Type::Secret) {
        command.env(&variable.name, variable.value());
    }
    command.process_group(0);
    Some(command)
}

/// The end of a process in Mesos' words: `exited with status 1`, `terminated with signal Killed`.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => {
            let core = if status.core_dumped() { " (core dumped)" } else { "" };
            format!("terminated with signal {}{core}", signal_name(signal))
        }
        (None, None) => format!("ended with wait status {}", status.into_raw()),
    }
}

/// The description that `strsignal` gives.
fn signal_name(signal: i32) -> String {
    const NAMES: [&str; 31] = [
        "Hangup",
        "Interrupt",
        "Quit",
        "Illegal instruction",
        "Trace/breakpoint trap",
        "Aborted",
        "Bus error",
        "Floating point exception",
        "Killed",
        "User defined signal 1",
        "Segmentation fault",
        "User defined signal 2",
        "Broken pipe",
        "Alarm clock",
        "Terminated",
        "Stack fault",
        "Child exited",
        "Continued",
        "Stopped (signal)",
        "Stopped",
        "Stopped (tty input)",
        "Stopped (tty output)",
        "Urgent I/O condition",
        "CPU time limit exceeded",
        "File size limit exceeded",
        "Virtual timer expired",
        "Profiling timer expired",
        "Window changed",
        "I/O possible",
        "Power failure",
        "Bad system call",
    ];
    let name = usize::try_from(signal).ok().and_then(|n| NAMES.get(n.checked_sub(1)?));
    match name {
        Some(name) => (*name).to_owned(),
        None => format!("Real-time signal {}", signal - 34),
    }
}

/// Signals `root`, its process group and all descendants. `root` must not have been reaped.
pub fn signal_tree(root: Pid, signal: Signal) {
    let tree = match process_table() {
        Ok(table) => tree(root.as_raw_nonzero().get(), &table),
        Err(error) => {
            eprintln!("mesos-executor: cannot list processes, signalling {root:?} alone: {error}");
            BTreeSet::from([root.as_raw_nonzero().get()])
        }
    };
    for pid in tree.into_iter().filter_map(Pid::from_raw) {
        // A process that ended meanwhile needs no signal.
        let _ = kill_process(pid, signal);
    }
}

#[derive(Debug, PartialEq)]
struct Process {
    pid: i32,
    parent: i32,
    group: i32,
}

fn process_table() -> io::Result<Vec<Process>> {
    let pids = fs::read_dir("/proc")?.filter_map(|entry| {
        let name = entry.ok()?.file_name();
        name.to_str()?.parse::<i32>().ok()
    });
    // A process may end between the listing and the reading.
    Ok(pids
        .filter_map(|pid| parse_stat(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .collect())
}

/// Reads `/proc/PID/stat`, whose second field, in parentheses, may hold anything.
fn parse_stat(pid: i32, stat: &str) -> Option<Process> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(1);
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    Some(Process { pid, parent, group })
}

fn tree(root: i32, table: &[Process]) -> BTreeSet<i32> {
    let mut members = BTreeSet::from([root]);
    loop {
        let known = members.len();
        let related = |p: &&Process| p.group == root || members.contains(&p.parent);
        let found: Vec<i32> = table.iter().filter(related).map(|p| p.pid).collect();
        members.extend(found);
        if members.len() == known {
            return members;
        }
    }
}

#[cfg(test)]
mod tests {
    use mesos_v1::{Environment, environment::Variable};

    use super::*;

    #[test]
    fn ends_are_worded_as_mesos_does() {
        for (raw, words) in [
            (0, "exited with status 0"),
            (3 << 8, "exited with status 3"),
            (15, "terminated with signal Terminated"),
            (9, "terminated with signal Killed"),
            (0x8b, "terminated with signal Segmentation fault (core dumped)"),
            (31, "terminated with signal Bad system call"),
            (36, "terminated with signal Real-time signal 2"),
        ] {
            assert_eq!(describe(ExitStatus::from_raw(raw)), words);
        }
    }

    #[test]
    fn a_tree_is_the_group_and_all_descendants() {
        let process = |pid, parent, group| Process { pid, parent, group };
        let table = [
            process(1, 0, 1),
            process(11, 10, 11),
            process(10, 1, 10),
            process(12, 11, 12),
            process(13, 1, 10),
            process(14, 1, 14),
        ];
        assert_eq!(tree(10, &table), BTreeSet::from([10, 11, 12, 13]));
    }

    #[test]
    fn a_program_may_have_any_name() {
        let expected = Process { pid: 7, parent: 3, group: 5 };
        assert_eq!(parse_stat(7, "7 (a) b (c)) S 3 5 9 0 -1"), Some(expected));
        assert_eq!(parse_stat(7, "7 (a"), None);
    }

    #[tokio::test]
    async fn arguments_are_the_whole_argv() {
        let info = CommandInfo {
            shell: Some(false),
            value: Some("/bin/sh".into()),
            arguments: ["name", "-c", r#"test "$0 $1 $A $B" = "zero one 2 3""#, "zero", "one"]
                .map(Into::into)
                .into(),
            environment: Some(Environment {
                variables: vec![Variable { name: "B".into(), value: Some("3".into()), ..Default::default() }],
            }),
            ..Default::default()
        };
        let extra = [("A".to_owned(), "2".to_owned()), ("B".to_owned(), "0".to_owned())].into();
        let status = command(&info, &extra).unwrap().status().await.unwrap();
        assert!(status.success());
    }
}
