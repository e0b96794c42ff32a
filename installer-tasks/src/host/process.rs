//! Child processes, and the signals that tell us to end.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::exit::{Exit, Failure, Result};

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignals {
    /// Takes the signals over from now on.
    pub fn take() -> Result<Self> {
        let take = |kind| {
            signal(kind).map_err(|error| Failure::new(Exit::Bug, "cannot take over a signal").because(error))
        };
        Ok(Self { terminate: take(SignalKind::terminate())?, interrupt: take(SignalKind::interrupt())? })
    }

    /// Waits for either; says which.
    pub async fn received(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Asks a child to end, and ends it when it has not within `grace`.
pub async fn end(child: &mut Child, grace: Duration) {
    if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::TERM);
    }
    if timeout(grace, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

/// A program that ran to its end.
#[derive(Debug)]
pub struct Ran {
    /// Whether it exited with 0.
    pub success: bool,
    /// What it wrote on its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote on its standard error, else how it ended, on one line.
    pub complaint: String,
}

/// Runs a program with `input` on its standard input; it is killed after `limit`, which is `None`.
pub async fn run(command: &mut Command, input: &[u8], limit: Duration) -> std::io::Result<Option<Ran>> {
    use tokio::io::AsyncWriteExt;

    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let stdin = child.stdin.take();
    let talk = async {
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program that does not read its input says so by its exit status.
                let _ = stdin.write_all(input).await;
            }
        };
        let ((), output) = tokio::join!(feed, child.wait_with_output());
        output
    };
    let Ok(output) = timeout(limit, talk).await else { return Ok(None) };
    let output = output?;
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    let complaint = if said.is_empty() { output.status.to_string() } else { said };
    Ok(Some(Ran { success: output.status.success(), stdout: output.stdout, complaint }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn input_output_and_complaint_come_through() {
        let limit = Duration::from_secs(10);
        let ran =
            run(Command::new("sh").args(["-c", "cat; echo no >&2; exit 3"]), b"hello", limit).await.unwrap();
        let ran = ran.unwrap();
        assert!(!ran.success);
        assert_eq!((&ran.stdout[..], ran.complaint.as_str()), (&b"hello"[..], "no"));
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_given_up() {
        let limit = Duration::from_millis(50);
        assert!(run(Command::new("sleep").arg("60"), b"", limit).await.unwrap().is_none());
    }
}
