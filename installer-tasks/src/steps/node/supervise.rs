//! Keeps one calico-node running: adopts it, creates it or replaces it, and watches it.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::{Stream, StreamExt};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::spec::{ContainerSpec, HASH_LABEL, NAME, TASK_LABEL, at_mirror};
use crate::exit::{Exit, Failure, Result};
use crate::host::docker::{Container, Docker, DockerError};

/// How long dockerd may be away when we start; later we wait for as long as it takes.
const START_LIMIT: Duration = Duration::from_mins(1);
/// How often we look whether dockerd is back, and whether the container runs.
const POLL: Duration = Duration::from_secs(1);
/// After the container ended: for how long dockerd must go on answering for the end to be the container's own. A
/// dockerd that shuts down ends its containers and then itself.
const SHUTDOWN_WATCH: Duration = Duration::from_secs(3);
/// How many lines of a container's log explain its end.
const LAST_LINES: usize = 20;
/// Seconds from SIGTERM to SIGKILL when Mesos ends us: below its own default grace period of 3 s.
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

fn decide(found: Option<&Container>, hash: &str) -> Action {
    match found {
        None => Action::Create,
        Some(container) if !container.labels.contains_key(TASK_LABEL) => Action::Refuse,
        Some(container) if container.labels.get(HASH_LABEL).is_none_or(|label| label != hash) => {
            Action::Replace("its configuration is another one")
        }
        Some(container) if !container.running => Action::Replace("it does not run"),
        Some(_) => Action::Adopt,
    }
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
    socket: &'a Path,
    spec: &'a ContainerSpec,
    mirror: Option<&'a str>,
}

impl<'a> Supervisor<'a> {
    /// Supervises the container of `spec` with the Docker at `socket`.
    pub fn new(socket: &'a Path, spec: &'a ContainerSpec, mirror: Option<&'a str>) -> Self {
        Self { socket, spec, mirror }
    }

    /// Goes on until the container ends by itself or cannot be had; says why.
    pub async fn supervise(&self) -> Failure {
        let mut limit = Some(START_LIMIT);
        // Only a container that we start ourselves is shown from its first line on.
        let mut log_from = seconds_now();
        loop {
            let docker = match self.wait_for_docker(limit.take()).await {
                Ok(docker) => docker,
                Err(failure) => return failure,
            };
            match self.keep_up(&docker, &mut log_from).await {
                Ok(()) => eprintln!("{NAME} was restarted by someone else; watching on"),
                Err(Over::DockerAway(reason)) => eprintln!("{reason}; waiting for it to come back"),
                Err(Over::Failed(failure)) => return failure,
            }
        }
    }

    /// Stops and removes the container, if it is ours.
    pub async fn stop(&self) -> Result<()> {
        let docker = match Docker::connect(self.socket).await {
            Ok(docker) => docker,
            Err(error) if error.is_away() => {
                eprintln!("{error}: {NAME} cannot be stopped, and is found again when it is back");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        match docker.container(NAME).await? {
            Some(container) if container.labels.contains_key(TASK_LABEL) => {
                docker.stop(&container.id, STOP_GRACE).await?;
                docker.remove(&container.id).await?;
                Ok(())
            }
            _ => Ok(()),
        }
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
                        eprintln!("{error}; waiting up to {} s", START_LIMIT.as_secs());
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
        let found = docker.container(NAME).await?;
        match (decide(found.as_ref(), &self.spec.hash()), found) {
            (Action::Adopt, Some(container)) => {
                println!("{NAME} runs already with this configuration: watching it");
                return Ok(container);
            }
            (Action::Replace(reason), Some(container)) => {
                // Before the old one is stopped: hosts are without Calico for as short as can be.
                self.provide_image(docker).await?;
                println!("replacing {NAME}: {reason}");
                docker.stop(&container.id, REPLACE_GRACE).await?;
                docker.remove(&container.id).await?;
            }
            (Action::Refuse, Some(container)) => {
                return Err(Over::Failed(Failure::unsuitable(format!(
                    "a container {NAME} (ID {:.12}, image {}) is there that is not ours, without the label {TASK_LABEL}: \
                     remove or rename it",
                    container.id, container.image
                ))));
            }
            _ => self.provide_image(docker).await?,
        }
        docker.create(NAME, self.spec).await?;
        docker.start(NAME).await?;
        println!("started {NAME} from {}", self.spec.image);
        *log_from = 0;
        let started = docker.container(NAME).await?;
        started.ok_or_else(|| {
            Over::Failed(Failure::new(Exit::TryAgain, format!("someone removed {NAME} as it started")))
        })
    }

    async fn provide_image(&self, docker: &Docker) -> Result<(), Over> {
        let image = &self.spec.image;
        if docker.has_image(image).await? {
            return Ok(());
        }
        let mirrored = self.mirror.and_then(|mirror| at_mirror(image, mirror));
        let source = mirrored.as_ref().map_or(image, |mirrored| &mirrored.source);
        eprintln!("pulling {source}");
        docker.pull(source).await.map_err(|error| match Over::from(error) {
            // The registry is what is missing.
            Over::Failed(failure) => Over::Failed(Failure::new(Exit::Unavailable, failure.to_string())),
            away @ Over::DockerAway(_) => away,
        })?;
        if let Some(mirrored) = &mirrored {
            docker.tag(source, &mirrored.repository, &mirrored.tag).await?;
        }
        println!("pulled {source}");
        Ok(())
    }

    async fn watch(&self, docker: &Docker, container: &Container, log_from: &mut i32) -> Result<(), Over> {
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
                        return Err(Over::DockerAway(format!("{NAME} ended as Docker went away")));
                    }
                    return Err(Over::Failed(ended(docker, &now).await));
                }
                None => {
                    return Err(Over::Failed(Failure::new(
                        Exit::No,
                        format!("someone removed the container {NAME}"),
                    )));
                }
            }
        }
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

/// The end of a container that should have gone on, with its last words on standard error.
async fn ended(docker: &Docker, container: &Container) -> Failure {
    match docker.last_log(&container.id, LAST_LINES).await {
        Ok(log) => eprintln!("the last lines of {NAME}:\n{}", String::from_utf8_lossy(&log).trim_end()),
        Err(error) => eprintln!("{error}"),
    }
    let mut text = format!("{NAME} ended by itself with exit status {}", container.exit_code);
    if container.out_of_memory {
        text.push_str(", killed for its memory: raise --node-mem");
    }
    if !container.error.is_empty() {
        text.push_str(": ");
        text.push_str(&container.error);
    }
    Failure::new(Exit::No, text)
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
        let decide = |found: Option<Container>| decide(found.as_ref(), "h1");
        assert_eq!(decide(None), Action::Create);
        assert_eq!(decide(Some(container(&ours, true))), Action::Adopt);
        assert!(matches!(decide(Some(container(&ours, false))), Action::Replace(_)));
        let other = [(TASK_LABEL, "calico-node"), (HASH_LABEL, "h2")];
        assert!(matches!(decide(Some(container(&other, true))), Action::Replace(_)));
        assert!(matches!(decide(Some(container(&ours[..1], true))), Action::Replace(_)));
        assert_eq!(decide(Some(container(&[(HASH_LABEL, "h1")], true))), Action::Refuse);
        assert_eq!(decide(Some(container(&[], false))), Action::Refuse);
    }
}
