//! A task's sandbox, through its agent: what a failed task said last.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use tokio::time::timeout;

use super::access::Access;
use crate::config::Server;
use crate::core::{FrameworkId, TaskId};

const LIMIT: Duration = Duration::from_secs(5);
/// As much of the end of the file as is read, in bytes.
const TAIL: u64 = 4096;
/// The lines that are kept where none tells most.
const LINES: usize = 5;
/// How the installer begins the line that says why it failed.
const ERROR: &str = "error: ";
/// How it begins what a container that has ended wrote last, which goes before that line.
const OF_CONTAINER: &str = "the last lines of ";

/// `/files/read`'s answer.
#[derive(Deserialize)]
struct Part {
    data: String,
    offset: u64,
}

/// Why a task failed, by its stderr; nothing when that cannot be had, for whatever reason: it is a help, not a
/// fact that anything depends on.
pub async fn last_words(
    access: &Access,
    agent: &Server,
    framework: &FrameworkId,
    task: &TaskId,
) -> Option<String> {
    // The agent's virtual path of an executor's latest run.
    let path = format!("/frameworks/{framework}/executors/{task}/runs/latest/stderr");
    // An offset of -1 asks for the size.
    let size = read(access, agent, &path, "-1").await?.offset;
    let text = read(access, agent, &path, &size.saturating_sub(TAIL).to_string()).await?.data;
    Some(telling(&text))
}

/// The installer's own word on its failure, and what its container wrote last, where that is the reason; without one, the
/// last lines that are not the executor's or the dynamic linker's.
fn telling(stderr: &str) -> String {
    let lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty() && !is_noise(line));
    let lines: Vec<&str> = lines.collect();
    let Some(last) = lines.iter().rposition(|line| line.starts_with(ERROR)) else { return end_of(&lines) };
    let (before, error) = (&lines[..last], &lines[last][ERROR.len()..]);
    let container = before.iter().rposition(|line| line.starts_with(OF_CONTAINER));
    match container.map(|at| end_of(&before[at + 1..])).filter(|lines| !lines.is_empty()) {
        Some(lines) => format!("{error}; it wrote last: {lines}"),
        None => error.to_owned(),
    }
}

fn end_of(lines: &[&str]) -> String {
    lines[lines.len().saturating_sub(LINES)..].join("; ")
}

fn is_noise(line: &str) -> bool {
    // Mesos logs as glog does: a letter for the severity, then month and day.
    let glog = line.starts_with(['I', 'W'])
        && line.len() > 5
        && line[1..].bytes().take(4).all(|b| b.is_ascii_digit());
    glog || line.starts_with("mesos-executor: ") || line.contains("no version information available")
}

async fn read(access: &Access, agent: &Server, path: &str, offset: &str) -> Option<Part> {
    let path = format!("/files/read?path={path}&offset={offset}");
    let response = access.get(agent, &path, LIMIT).await.ok()?;
    if response.status != StatusCode::OK {
        return None;
    }
    let body = timeout(LIMIT, response.bytes(1024 * 1024)).await.ok()?.ok()?;
    serde_json::from_slice(&body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_installers_error_tells_most() {
        let stderr = "reading\nerror: no address\nmesos-executor: Command exited with status 78\n";
        assert_eq!(telling(stderr), "no address");
    }

    #[test]
    fn what_a_container_wrote_last_is_told_with_the_installers_error() {
        let stderr = "error: of before\nthe last lines of calico-node:\none\nerror: no such flag\n\n\
                      error: calico-node ended by itself with exit status 2\n";
        let expected =
            "calico-node ended by itself with exit status 2; it wrote last: one; error: no such flag";
        assert_eq!(telling(stderr), expected);
        assert_eq!(telling("the last lines of calico-node:\nerror: it ended\n"), "it ended");
    }

    #[test]
    fn without_one_the_last_lines_tell_but_for_noise() {
        let stderr = "/x: no version information available (required by y)\nI1123 19:00:00.1 1 a.cpp:1] up\n\
                      Ä is odd\npanicked\nmesos-executor: forked command at 3\n";
        assert_eq!(telling(stderr), "Ä is odd; panicked");
        assert_eq!(telling(""), "");
    }
}
