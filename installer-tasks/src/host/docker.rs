//! Docker, through its API on its unix socket.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, HostConfig, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, EventsOptionsBuilder, InspectContainerOptions,
    LogsOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions, StopContainerOptionsBuilder,
    TagImageOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker as Client};
use futures::{Stream, StreamExt, TryStreamExt};

use super::container::{ContainerSpec, Mount};
use super::registry::Login;
use crate::exit::{Exit, Failure};

pub mod networks;

mod store;

pub use store::{Info, Listed, Running, Swarm, info};

/// dockerd answers at once, unless it is going away or coming back.
const LIMIT_SECONDS: u64 = 10;
/// A pull reports progress all the time; its first answer waits for the registry.
const PULL_LIMIT: Duration = Duration::from_mins(5);

/// Something that Docker did not do.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// dockerd is not there, or went away in the middle.
    #[error("Docker does not answer on {}: {reason}", socket.display())]
    Away {
        /// Its socket.
        socket: PathBuf,
        /// What was seen.
        reason: String,
    },
    /// dockerd says no.
    #[error("Docker did not {action}: {message}")]
    Refused {
        /// What was asked.
        action: String,
        /// The HTTP status of its answer; 0 for an error within an answer's stream.
        status: u16,
        /// Its words.
        message: String,
    },
}

impl DockerError {
    /// Whether dockerd was not there to answer.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Away { .. })
    }
}

impl From<DockerError> for Failure {
    fn from(error: DockerError) -> Self {
        let exit = match &error {
            DockerError::Away { .. } => Exit::Unavailable,
            DockerError::Refused { .. } => Exit::TryAgain,
        };
        Self::new(exit, error.to_string())
    }
}

/// A result of Docker's.
pub type Result<T, E = DockerError> = std::result::Result<T, E>;

/// A container as Docker shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// Its full ID.
    pub id: String,
    /// Its image, as it was named at creation.
    pub image: String,
    /// Its labels.
    pub labels: HashMap<String, String>,
    /// Its environment: `NAME=VALUE`, the image's variables included.
    pub environment: Vec<String>,
    /// Whether it runs.
    pub running: bool,
    /// When it was started last; changes with each start.
    pub started_at: String,
    /// The exit status of its last end.
    pub exit_code: i64,
    /// Whether the kernel killed it for its memory.
    pub out_of_memory: bool,
    /// Why it could not be started.
    pub error: String,
}

impl From<ContainerInspectResponse> for Container {
    fn from(answer: ContainerInspectResponse) -> Self {
        let config = answer.config.unwrap_or_default();
        let state = answer.state.unwrap_or_default();
        Self {
            id: answer.id.unwrap_or_default(),
            image: config.image.unwrap_or_default(),
            labels: config.labels.unwrap_or_default(),
            environment: config.env.unwrap_or_default(),
            // One that Docker is about to start again says that it runs.
            running: state.running.unwrap_or_default() && !state.restarting.unwrap_or_default(),
            started_at: state.started_at.unwrap_or_default(),
            exit_code: state.exit_code.unwrap_or_default(),
            out_of_memory: state.oom_killed.unwrap_or_default(),
            error: state.error.unwrap_or_default(),
        }
    }
}

/// A dockerd that answered. Every call makes a connection of its own.
#[derive(Debug, Clone)]
pub struct Docker {
    client: Client,
    socket: PathBuf,
}

impl Docker {
    /// Connects, and agrees on a version of the API that dockerd speaks.
    pub async fn connect(socket: &Path) -> Result<Self> {
        let error = |error| classify(socket, "tell its version", error);
        let path = socket.to_string_lossy();
        let client = Client::connect_with_unix(&path, LIMIT_SECONDS, API_DEFAULT_VERSION).map_err(error)?;
        let client = client.negotiate_version().await.map_err(error)?;
        Ok(Self { client, socket: socket.to_owned() })
    }

    /// dockerd's version: `20.10.24`.
    pub async fn version(&self) -> Result<String> {
        let answer = self.client.version().await.map_err(|error| self.error("tell", "its version", error))?;
        Ok(answer.version.unwrap_or_default())
    }

    /// Whether dockerd answers a new connection within `limit`.
    pub async fn answers(&self, limit: Duration) -> bool {
        matches!(tokio::time::timeout(limit, self.client.ping()).await, Ok(Ok(_)))
    }

    /// The container of this name or ID.
    pub async fn container(&self, name: &str) -> Result<Option<Container>> {
        let answer = self.client.inspect_container(name, None::<InspectContainerOptions>).await;
        absent(answer)
            .map(|found| found.map(Container::from))
            .map_err(|error| self.error("inspect", name, error))
    }

    /// Whether an image is there.
    pub async fn has_image(&self, image: &str) -> Result<bool> {
        let answer = self.client.inspect_image(image).await;
        absent(answer)
            .map(|found| found.is_some())
            .map_err(|error| self.error("look for the image", image, error))
    }

    /// Pulls an image, logged in to the registry at an address where that is given.
    pub async fn pull(&self, image: &str, login: Option<(Login, String)>) -> Result<()> {
        let options = CreateImageOptionsBuilder::default().from_image(image).build();
        let client = self.client.clone().with_timeout(PULL_LIMIT);
        let credentials = login.map(|(Login { user, password }, address)| DockerCredentials {
            username: Some(user),
            password: Some(password),
            serveraddress: Some(address),
            ..DockerCredentials::default()
        });
        let mut progress = client.create_image(Some(options), None, credentials);
        while progress.try_next().await.map_err(|error| self.error("pull", image, error))?.is_some() {}
        Ok(())
    }

    /// Gives `image` the further name `repository:tag`.
    pub async fn tag(&self, image: &str, repository: &str, tag: &str) -> Result<()> {
        let options = TagImageOptionsBuilder::default().repo(repository).tag(tag).build();
        self.client.tag_image(image, Some(options)).await.map_err(|error| self.error("tag", image, error))
    }

    /// Creates a container, not yet started.
    pub async fn create(&self, spec: &ContainerSpec) -> Result<()> {
        let options = CreateContainerOptionsBuilder::default().name(spec.name).build();
        let answer = self.client.create_container(Some(options), body(spec)).await;
        answer.map(drop).map_err(|error| self.error("create", spec.name, error))
    }

    /// Starts a container.
    pub async fn start(&self, name: &str) -> Result<()> {
        let answer = self.client.start_container(name, None::<StartContainerOptions>).await;
        answer.map_err(|error| self.error("start", name, error))
    }

    /// Stops a container: SIGTERM, and SIGKILL after `grace` seconds. One that is gone is no error.
    pub async fn stop(&self, name: &str, grace: i32) -> Result<()> {
        let options = StopContainerOptionsBuilder::default().t(grace).build();
        let answer = self.client.stop_container(name, Some(options)).await;
        absent(answer).map(drop).map_err(|error| self.error("stop", name, error))
    }

    /// Removes a stopped container. One that is gone is no error.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let options = RemoveContainerOptionsBuilder::default().v(true).build();
        let answer = self.client.remove_container(name, Some(options)).await;
        absent(answer).map(drop).map_err(|error| self.error("remove", name, error))
    }

    /// What a container writes from `since` (seconds since 1970) on, as long as it runs.
    pub fn follow_log(&self, id: &str, since: i32) -> impl Stream<Item = Vec<u8>> + Unpin + use<> {
        let options =
            LogsOptionsBuilder::default().follow(true).stdout(true).stderr(true).since(since).build();
        let stream = self.client.logs(id, Some(options));
        // A log that breaks is no fault of the container's: whether it runs is asked elsewhere.
        Box::pin(stream.filter_map(async |piece| piece.ok().map(|piece| piece.into_bytes().to_vec())))
    }

    /// The last lines that a container wrote.
    pub async fn last_log(&self, id: &str, lines: usize) -> Result<Vec<u8>> {
        let options =
            LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&lines.to_string()).build();
        let pieces = self.client.logs(id, Some(options)).map_ok(|piece| piece.into_bytes().to_vec());
        let pieces: Vec<Vec<u8>> =
            pieces.try_collect().await.map_err(|error| self.error("show the log of", id, error))?;
        Ok(pieces.concat())
    }

    /// An item whenever something happens to the container; the stream ends when dockerd goes away.
    pub fn events(&self, id: &str) -> impl Stream<Item = ()> + Unpin + use<> {
        let filters = HashMap::from([("container", vec![id])]);
        let options = EventsOptionsBuilder::default().filters(&filters).build();
        let stream = self.client.events(Some(options));
        Box::pin(stream.take_while(|event| futures::future::ready(event.is_ok())).map(drop))
    }

    fn error(&self, action: &str, subject: &str, error: Error) -> DockerError {
        classify(&self.socket, &format!("{action} {subject}"), error)
    }
}

/// A 404 as `None`, and a 304 ("it is so already") as well.
fn absent<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(Error::DockerResponseServerError { status_code: 404 | 304, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn classify(socket: &Path, action: &str, error: Error) -> DockerError {
    let action = action.to_owned();
    match error {
        Error::DockerResponseServerError { status_code, message } => {
            DockerError::Refused { action, status: status_code, message }
        }
        Error::DockerStreamError { error } => DockerError::Refused { action, status: 0, message: error },
        error @ (Error::JsonDataError { .. }
        | Error::JsonSerdeError { .. }
        | Error::APIVersionParseError {}) => {
            DockerError::Refused { action, status: 0, message: error.to_string() }
        }
        Error::SocketNotFoundError(_) => {
            DockerError::Away { socket: socket.to_owned(), reason: "there is no such socket".to_owned() }
        }
        error => {
            // The cause that matters ("connection refused") is the innermost.
            let mut innermost: &dyn std::error::Error = &error;
            while let Some(source) = innermost.source() {
                innermost = source;
            }
            DockerError::Away { socket: socket.to_owned(), reason: innermost.to_string() }
        }
    }
}

fn body(spec: &ContainerSpec) -> ContainerCreateBody {
    let through = spec.through_restarts.as_ref();
    let policy = RestartPolicy {
        // Not `always`: what its supervisor stopped stays so, also over a restart of dockerd.
        name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
        ..RestartPolicy::default()
    };
    ContainerCreateBody {
        stop_signal: through.map(|it| it.stop_signal.to_owned()),
        stop_timeout: through.map(|it| it.outlives),
        image: Some(spec.image.clone()),
        env: Some(spec.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(spec.labels().into_iter().collect()),
        host_config: Some(HostConfig {
            network_mode: Some("host".to_owned()),
            privileged: Some(true),
            binds: Some(spec.mounts.iter().map(Mount::bind).collect()),
            memory: Some(spec.memory_bytes),
            cpu_shares: Some(spec.cpu_shares),
            restart_policy: through.map(|_| policy),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::container::ThroughRestarts;
    use super::*;

    #[tokio::test]
    async fn a_missing_socket_is_a_docker_that_is_away() {
        let error = Docker::connect(Path::new("/nonexistent/docker.sock")).await.unwrap_err();
        assert!(error.is_away(), "{error}");
        assert_eq!(Failure::from(error).exit(), Exit::Unavailable);
    }

    #[tokio::test]
    async fn a_dead_socket_is_a_docker_that_is_away() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let error = Docker::connect(&socket).await.unwrap_err();
        assert!(error.is_away(), "{error}");
        assert!(error.to_string().contains("refused"), "{error}");
    }

    #[test]
    fn the_container_is_what_the_spec_says() {
        let spec = ContainerSpec {
            name: "calico-node",
            task: "calico-node",
            image: "calico/node:v3".into(),
            environment: vec![("IP".into(), "10.0.0.1".into())],
            mounts: vec![Mount::same("/lib/modules")],
            memory_bytes: 64 << 20,
            cpu_shares: 102,
            through_restarts: None,
            files: None,
        };
        let through_restarts = Some(ThroughRestarts { stop_signal: "SIGWINCH", outlives: 12 });
        let outliving =
            serde_json::to_value(body(&ContainerSpec { through_restarts, ..spec.clone() })).unwrap();
        assert_eq!(outliving["HostConfig"]["RestartPolicy"]["Name"], "unless-stopped");
        assert_eq!((&outliving["StopSignal"], &outliving["StopTimeout"]), (&"SIGWINCH".into(), &12.into()));
        let body = serde_json::to_value(body(&spec)).unwrap();
        assert_eq!(body["Env"], serde_json::json!(["IP=10.0.0.1"]));
        assert_eq!(body["HostConfig"]["Binds"], serde_json::json!(["/lib/modules:/lib/modules"]));
        assert_eq!(body["HostConfig"]["NetworkMode"], "host");
        assert_eq!(body["HostConfig"]["Privileged"], true);
        assert_eq!(body["HostConfig"]["Memory"], 67_108_864);
        assert_eq!(body["HostConfig"]["CpuShares"], 102);
        assert!(body["HostConfig"].get("RestartPolicy").is_none());
        assert!(body["HostConfig"].get("AutoRemove").is_none());
        assert_eq!(body["Labels"]["calico-dcos.task"], "calico-node");
    }
}
