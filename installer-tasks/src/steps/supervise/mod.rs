//! Keeps the container of one service running: adopts it, creates it or replaces it, and watches it.
//!
//! A dockerd that goes away is waited for, for as long as it takes. Then the container is adopted where it runs
//! (dockerd kept it alive, or started it again itself), else started anew. Only its own end is the service's.

use std::io::Write;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::{Stream, StreamExt};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::exit::{Exit, Failure, Result};
use crate::host::container::{ContainerSpec, HASH_LABEL, TASK_LABEL};
use crate::host::docker::{Container, Docker, DockerError};
use crate::host::plugin::Plugin;
use crate::host::process::StopSignals;
use crate::options::RegistryOptions;
use crate::say;

mod check;
mod image;
pub mod service;

pub use check::{asked_within, container_runs};
use image::ImageError;
pub use image::prefetch;

/// How long dockerd may be away when we start; later we wait for as long as it takes.
const START_LIMIT: Duration = Duration::from_mins(1);
/// How often we look whether dockerd is back, and whether the container runs.
const POLL: Duration = Duration::from_secs(1);
/// After the container ended: for how long dockerd must go on answering for the end to be the container's own. A
/// dockerd that shuts down ends its containers and then itself.
const SHUTDOWN_WATCH: Duration = Duration::from_secs(3);
/// How many lines of a container's log explain its end.
const LAST_LINES: usize = 20;
/// Seconds from the stop signal to SIGKILL when Mesos ends us: below its own default grace period of 3 s.
const STOP_GRACE: i32 = 2;
/// Seconds from SIGTERM to SIGKILL for a container that is replaced.
const REPLACE_GRACE: i32 = 10;

/// What is to be done about the container that is there.
#[derive(Debug, PartialEq, Eq)]
enum Action {
    /// It is the one that we want: watch it.
    Adopt,
    /// There is none.
    Create,
    /// It is ours, but another one, or it does not run.
    Replace(&'static str),
    /// It is someone else's.
    Refuse,
}

fn decide(found: Option<&Container>, task: &str, hash: &str, mounts_lost: bool) -> Action {
    match found {
        None => Action::Create,
        Some(container) if !is_of(container, task) => Action::Refuse,
        Some(container) if container.labels.get(HASH_LABEL).is_none_or(|label| label != hash) => {
            Action::Replace("its configuration is another one")
        }
        Some(container) if !container.running => Action::Replace("it does not run"),
        Some(_) if mounts_lost => {
            Action::Replace("a socket that it has mounted was made anew since it started")
        }
        Some(_) => Action::Adopt,
    }
}

/// Whether a container is ours, of this task.
fn is_of(container: &Container, task: &str) -> bool {
    container.labels.get(TASK_LABEL).is_some_and(|label| label == task)
}

/// Why one watch is over.
enum Over {
    /// dockerd went away: it may come back, and the container with it.
    DockerAway(String),
    /// Nothing that we can repair.
    Failed(Failure),
}

impl From<DockerError> for Over {
    fn from(error: DockerError) -> Self {
        if error.is_away() { Self::DockerAway(error.to_string()) } else { Self::Failed(error.into()) }
    }
}

/// Keeps the container of one spec running.
pub struct Supervisor<'a> {
    /// Docker's socket.
    pub socket: &'a Path,
    /// The container.
    pub spec: &'a ContainerSpec,
    /// Where its image comes from.
    pub registry: &'a RegistryOptions,
    /// The option that sets its memory.
    pub memory_option: &'a str,
    /// The plugins that it serves: it leaves their sockets behind when it ends.
    pub plugins: &'a [Plugin],
}

impl Supervisor<'_> {
    /// Goes on until a signal comes, and then stops the container; or until it ends by itself. Never returns success: a
    /// service that has ended is not finished.
    pub async fn run(&self, signals: &mut StopSignals) -> Result<()> {
        let signal = tokio::select! {
            signal = signals.received() => signal,
            failure = self.supervise() => {
                service::remove_dead_sockets(self.plugins).await;
                return Err(failure);
            }
        };
        let name = self.spec.name;
        say::progress(format_args!("{signal}: stopping {name}"));
        self.stop().await?;
        Err(Failure::new(Exit::Terminated, format!("ended by {signal}; {name} is stopped")))
    }

    /// Goes on until the container ends by itself or cannot be had; says why.
    async fn supervise(&self) -> Failure {
        let name = self.spec.name;
        let mut limit = Some(START_LIMIT);
        // Only a container that we start ourselves is shown from its first line on.
        let mut log_from = seconds_now();
        loop {
            let docker = match self.wait_for_docker(limit.take()).await {
                Ok(docker) => docker,
                Err(failure) => return failure,
            };
            match self.keep_up(&docker, &mut log_from).await {
                Ok(()) => say::progress(format_args!("{name} was restarted by someone else; watching on")),
                Err(Over::DockerAway(reason)) => {
                    say::progress(format_args!("{reason}; waiting for it to come back"));
                }
                Err(Over::Failed(failure)) => return failure,
            }
        }
    }

    /// Stops and removes the container, if it is ours.
    async fn stop(&self) -> Result<()> {
        let name = self.spec.name;
        let docker = match Docker::connect(self.socket).await {
            Ok(docker) => docker,
            Err(error) if error.is_away() => {
                say::progress(format_args!(
                    "{error}: {name} cannot be stopped, and is found again when it is back"
                ));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(container) = docker.container(name).await?
            && is_of(&container, self.spec.task)
        {
            docker.stop(&container.id, self.grace(STOP_GRACE)).await?;
            docker.remove(&container.id).await?;
        }
        service::remove_dead_sockets(self.plugins).await;
        Ok(())
    }

    /// Seconds to wait for its end: none for one that its stop signal does not end.
    fn grace(&self, seconds: i32) -> i32 {
        if self.spec.through_restarts.is_some() { 0 } else { seconds }
    }

    async fn wait_for_docker(&self, limit: Option<Duration>) -> Result<Docker> {
        let since = Instant::now();
        let mut said = false;
        loop {
            match Docker::connect(self.socket).await {
                Ok(docker) => return Ok(docker),
                Err(error) if !error.is_away() => return Err(error.into()),
                Err(error) if limit.is_some_and(|limit| since.elapsed() >= limit) => return Err(error.into()),
                Err(error) => {
                    if limit.is_some() && !std::mem::replace(&mut said, true) {
                        say::progress(format_args!("{error}; waiting up to {} s", START_LIMIT.as_secs()));
                    }
                    sleep(POLL).await;
                }
            }
        }
    }

    /// Has the container running and watches it; returns when someone else has started it anew.
    async fn keep_up(&self, docker: &Docker, log_from: &mut i32) -> Result<(), Over> {
        let container = self.ensure(docker, log_from).await?;
        self.watch(docker, &container, log_from).await
    }

    async fn ensure(&self, docker: &Docker, log_from: &mut i32) -> Result<Container, Over> {
        let name = self.spec.name;
        let found = docker.container(name).await?;
        let mounts_lost = found.as_ref().is_some_and(|container| self.has_lost_a_socket(container));
        match (decide(found.as_ref(), self.spec.task, &self.spec.hash(), mounts_lost), found) {
            (Action::Adopt, Some(container)) => {
                say::result(format_args!("{name} runs already with this configuration: watching it"));
                return Ok(container);
            }
            (Action::Replace(reason), Some(container)) => {
                // Before the old one is stopped: hosts are without Calico for as short as can be.
                self.provide_image(docker).await?;
                say::result(format_args!("replacing {name}: {reason}"));
                docker.stop(&container.id, self.grace(REPLACE_GRACE)).await?;
                docker.remove(&container.id).await?;
            }
            (Action::Refuse, Some(container)) => {
                return Err(Over::Failed(Failure::unsuitable(format!(
                    "a container {name} (ID {:.12}, image {}) is there that is not ours, without the label {TASK_LABEL}={}: \
                     remove or rename it",
                    container.id, container.image, self.spec.task
                ))));
            }
            _ => self.provide_image(docker).await?,
        }
        docker.create(self.spec).await?;
        docker.start(name).await?;
        say::result(format_args!("started {name} from {}", self.spec.image));
        *log_from = 0;
        let started = docker.container(name).await?;
        started.ok_or_else(|| {
            Over::Failed(Failure::new(Exit::TryAgain, format!("someone removed {name} as it started")))
        })
    }

    /// A mount is of the socket that was there when the container started. A dockerd that keeps its containers running
    /// while it restarts (live-restore) makes another one, where systemd does not hold it.
    fn has_lost_a_socket(&self, container: &Container) -> bool {
        let Ok(started) = humantime::parse_rfc3339(&container.started_at) else { return false };
        self.spec.mounts.iter().any(|mount| {
            std::fs::metadata(&mount.host).is_ok_and(|found| {
                found.file_type().is_socket() && found.modified().is_ok_and(|made| made > started)
            })
        })
    }

    async fn provide_image(&self, docker: &Docker) -> Result<(), Over> {
        match image::provide(docker, &self.spec.image, self.registry).await {
            Ok(_) => Ok(()),
            Err(ImageError::Docker(error)) if error.is_away() => Err(error.into()),
            Err(error) => Err(Over::Failed(image::unavailable(error))),
        }
    }

    async fn watch(&self, docker: &Docker, container: &Container, log_from: &mut i32) -> Result<(), Over> {
        let name = self.spec.name;
        let mut log = Some(docker.follow_log(&container.id, *log_from));
        let mut events = docker.events(&container.id);
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                piece = next(&mut log) => {
                    match piece {
                        Some(piece) => show(&piece),
                        None => log = None,
                    }
                    *log_from = seconds_now();
                    continue;
                }
                event = events.next() => if event.is_none() {
                    return Err(Over::DockerAway("Docker's events ended".to_owned()));
                },
                _ = ticks.tick() => {}
            }
            match docker.container(&container.id).await? {
                Some(now) if now.running && now.started_at == container.started_at => {}
                Some(now) if now.running => return Ok(()),
                Some(now) => {
                    drain(&mut log).await;
                    if goes_away(docker, &mut events).await {
                        return Err(Over::DockerAway(format!("{name} ended as Docker went away")));
                    }
                    if self.spec.through_restarts.is_some() {
                        // Its end is Mesos' to count, and dockerd is not to start it again meanwhile.
                        docker.stop(&now.id, 0).await?;
                    }
                    return Err(Over::Failed(self.ended(docker, &now).await));
                }
                None => {
                    return Err(Over::Failed(Failure::new(
                        Exit::No,
                        format!("someone removed the container {name}"),
                    )));
                }
            }
        }
    }

    /// The end of a container that should have gone on, with its last words on standard error.
    async fn ended(&self, docker: &Docker, container: &Container) -> Failure {
        let name = self.spec.name;
        match docker.last_log(&container.id, LAST_LINES).await {
            Ok(log) => say::progress(format_args!(
                "the last lines of {name}:\n{}",
                String::from_utf8_lossy(&log).trim_end()
            )),
            Err(error) => say::progress(&error),
        }
        let mut text = format!("{name} ended by itself with exit status {}", container.exit_code);
        if container.out_of_memory {
            text.push_str(", killed for its memory: raise --");
            text.push_str(self.memory_option);
        }
        if !container.error.is_empty() {
            text.push_str(": ");
            text.push_str(&container.error);
        }
        Failure::new(Exit::No, text)
    }
}

/// The next piece of a log; never, when it has ended already.
async fn next(log: &mut Option<impl Stream<Item = Vec<u8>> + Unpin>) -> Option<Vec<u8>> {
    match log {
        Some(log) => log.next().await,
        None => futures::future::pending().await,
    }
}

/// Shows what is left of a log whose container has ended.
async fn drain(log: &mut Option<impl Stream<Item = Vec<u8>> + Unpin>) {
    if let Some(log) = log {
        while let Ok(Some(piece)) = timeout(POLL, log.next()).await {
            show(&piece);
        }
    }
}

fn show(piece: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    // A reader that is gone is no reason to end a service.
    let _ = stdout.write_all(piece).and_then(|()| stdout.flush());
}

/// Whether dockerd goes away within [`SHUTDOWN_WATCH`]: seen by its events, or by a new connection that gets no
/// answer (with socket activation it is accepted, but not served).
async fn goes_away(docker: &Docker, events: &mut (impl Stream<Item = ()> + Unpin)) -> bool {
    let events_end = async { while events.next().await.is_some() {} };
    let no_answer = async {
        while docker.answers(POLL).await {
            sleep(POLL / 5).await;
        }
    };
    let gone = async {
        tokio::select! { () = events_end => {}, () = no_answer => {} }
    };
    timeout(SHUTDOWN_WATCH, gone).await.is_ok()
}

/// Seconds since 1970, as Docker's API takes them.
fn seconds_now() -> i32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i32::try_from(since.as_secs()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(labels: &[(&str, &str)], running: bool) -> Container {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Container { labels, running, ..Container::default() }
    }

    #[test]
    fn ours_is_adopted_or_replaced_and_a_stranger_is_refused() {
        let ours = [(TASK_LABEL, "calico-node"), (HASH_LABEL, "h1")];
        let running = Some(container(&ours, true));
        assert!(matches!(decide(running.as_ref(), "calico-node", "h1", true), Action::Replace(_)));
        let decide = |found: Option<Container>| decide(found.as_ref(), "calico-node", "h1", false);
        assert_eq!(decide(None), Action::Create);
        assert_eq!(decide(Some(container(&ours, true))), Action::Adopt);
        assert!(matches!(decide(Some(container(&ours, false))), Action::Replace(_)));
        let other = [(TASK_LABEL, "calico-node"), (HASH_LABEL, "h2")];
        assert!(matches!(decide(Some(container(&other, true))), Action::Replace(_)));
        assert!(matches!(decide(Some(container(&ours[..1], true))), Action::Replace(_)));
        assert_eq!(decide(Some(container(&[(HASH_LABEL, "h1")], true))), Action::Refuse);
        assert_eq!(decide(Some(container(&[], false))), Action::Refuse);
        let another = [(TASK_LABEL, "libnetwork"), (HASH_LABEL, "h1")];
        assert_eq!(decide(Some(container(&another, true))), Action::Refuse);
    }

    #[test]
    fn a_socket_that_is_newer_than_the_container_is_lost_to_it() {
        use crate::host::container::Mount;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let spec = ContainerSpec {
            name: "n",
            task: "t",
            image: String::new(),
            environment: Vec::new(),
            mounts: vec![Mount::same("/proc"), Mount::same(path.to_str().unwrap())],
            memory_bytes: 0,
            cpu_shares: 0,
            through_restarts: None,
            files: None,
        };
        let supervisor = Supervisor {
            socket: Path::new("/nonexistent"),
            spec: &spec,
            registry: &RegistryOptions { mirror: None, credentials: None },
            memory_option: "m",
            plugins: &[],
        };
        let started = |at: &str| Container { started_at: at.to_owned(), ..Container::default() };
        assert!(supervisor.has_lost_a_socket(&started("2020-01-01T00:00:00.123456789Z")));
        assert!(!supervisor.has_lost_a_socket(&started("2100-01-01T00:00:00Z")));
        assert!(!supervisor.has_lost_a_socket(&started("")));
    }
}
