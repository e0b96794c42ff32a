//! Through `systemctl`, where there is no bus.

use std::collections::HashMap;
use std::time::Duration;

use tokio::process::Command;

use super::{CALL_LIMIT, JobResult, Result, SystemdError, Unit};
use crate::host::process::{self, Ran};

const PROPERTIES: &str = "LoadState,ActiveState,Result,MainPID,ExecMainStartTimestampMonotonic,ExecStart,\
                          Environment,EnvironmentFiles,FragmentPath,DropInPaths,KillMode";

/// The program `systemctl`.
#[derive(Debug)]
pub struct Systemctl {
    program: &'static str,
}

impl Systemctl {
    /// Sees whether it reaches systemd; says why not.
    pub(super) async fn find() -> Result<Self, String> {
        let it = Self { program: "systemctl" };
        match it.run("show its version", &["show", "-p", "Version"], CALL_LIMIT).await {
            Ok(ran) if ran.success => Ok(it),
            Ok(ran) => Err(ran.complaint),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn run(&self, action: &str, arguments: &[&str], limit: Duration) -> Result<Ran> {
        match process::run(Command::new(self.program).args(arguments), b"", limit).await {
            Ok(Some(ran)) => Ok(ran),
            Ok(None) => Err(SystemdError::Timeout { action: action.to_owned(), limit }),
            Err(error) => {
                let message = format!("cannot run {}: {error}", self.program);
                Err(SystemdError::Refused { action: action.to_owned(), message })
            }
        }
    }

    async fn must(&self, action: String, arguments: &[&str]) -> Result<Ran> {
        let ran = self.run(&action, arguments, CALL_LIMIT).await?;
        if ran.success { Ok(ran) } else { Err(SystemdError::Refused { action, message: ran.complaint }) }
    }

    pub(super) async fn unit(&self, name: &str, action: String) -> Result<Unit> {
        let ran = self.must(action, &["show", "-p", PROPERTIES, "--", name]).await?;
        Ok(parse(&String::from_utf8_lossy(&ran.stdout)))
    }

    pub(super) async fn hang_up(&self, name: &str, action: String) -> Result<()> {
        self.must(action, &["kill", "--kill-who=main", "-s", "HUP", "--", name]).await.map(drop)
    }

    pub(super) async fn reload(&self, action: String) -> Result<()> {
        self.must(action, &["daemon-reload"]).await.map(drop)
    }

    pub(super) async fn restart(&self, name: &str, action: String, limit: Duration) -> Result<JobResult> {
        // One that has not failed is no reason to stop here.
        let _ = self.run(&action, &["reset-failed", "--", name], CALL_LIMIT).await;
        let ran = self.run(&action, &["restart", "--", name], limit).await?;
        Ok(if ran.success { JobResult::Done } else { JobResult::Other(ran.complaint) })
    }
}

/// Reads `systemctl show`: a property a line, those that are lists on several lines or separated by blanks. It does
/// not quote the words of `ExecStart`, so one with blanks in it comes as several.
fn parse(text: &str) -> Unit {
    let mut single: HashMap<&str, &str> = HashMap::new();
    let mut unit = Unit::default();
    for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
        match name {
            "ExecStart" => {
                let words = value.split_once("argv[]=").map_or("", |(_, rest)| rest);
                let words = words.split_once(" ; ").map_or(words, |(words, _)| words);
                unit.exec_start.push(words.split_whitespace().map(ToOwned::to_owned).collect());
            }
            "EnvironmentFiles" => {
                let path = value.rsplit_once(" (ignore_errors=").map_or(value, |(path, _)| path);
                unit.environment_files.push(path.to_owned());
            }
            "Environment" => unit.environment = crate::host::words::split(value),
            _ => {
                single.insert(name, value);
            }
        }
    }
    let get = |name| single.get(name).copied().unwrap_or_default();
    let owned = |name| get(name).to_owned();
    unit.load_state = owned("LoadState");
    unit.active_state = owned("ActiveState");
    unit.result = owned("Result");
    unit.kill_mode = owned("KillMode");
    unit.main_pid = get("MainPID").parse().unwrap_or_default();
    unit.started = get("ExecMainStartTimestampMonotonic").parse().unwrap_or_default();
    let files = [get("FragmentPath")].into_iter().chain(get("DropInPaths").split_whitespace());
    unit.files = files.filter(|path| !path.is_empty()).map(ToOwned::to_owned).collect();
    unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemctl_shows_is_read() {
        let unit = parse(
            "MainPID=71\nResult=success\nExecMainStartTimestampMonotonic=1097332169\n\
             ExecStart={ path=/usr/sbin/dockerd ; argv[]=/usr/sbin/dockerd -H fd:// $DOCKER_OPTS ; ignore_errors=no ; \
             start_time=[Wed 2026-11-25 17:32:16 UTC] ; stop_time=[n/a] ; pid=71 ; code=(null) ; status=0/0 }\n\
             Environment=A=1 \"B=2 3\"\nEnvironmentFiles=/etc/default/docker (ignore_errors=yes)\n\
             EnvironmentFiles=/etc/b (ignore_errors=no)\nLoadState=loaded\nActiveState=active\n\
             FragmentPath=/lib/systemd/system/docker.service\nDropInPaths=/etc/a.conf /etc/b.conf\nKillMode=process\n",
        );
        assert_eq!(unit.exec_start, [["/usr/sbin/dockerd", "-H", "fd://", "$DOCKER_OPTS"]]);
        assert_eq!(unit.environment, ["A=1", "B=2 3"]);
        assert_eq!(unit.environment_files, ["/etc/default/docker", "/etc/b"]);
        assert_eq!(unit.files, ["/lib/systemd/system/docker.service", "/etc/a.conf", "/etc/b.conf"]);
        assert!(unit.exists() && unit.is_active() && unit.spares_others());
        assert_eq!((unit.main_pid, unit.started), (71, 1_097_332_169));
        assert!(!parse("LoadState=not-found\nMainPID=0\n").exists());
    }
}
