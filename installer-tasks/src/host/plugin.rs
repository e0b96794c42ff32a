//! Docker's legacy plugins: unix sockets below [`FOLDER`], which dockerd finds by their names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::net::UnixStream;

use super::http::{self, HttpError};

/// Where dockerd looks for plugins' sockets.
pub const FOLDER: &str = "/run/docker/plugins";

/// Why a plugin did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// No answer.
    #[error("the plugin {name} does not answer: {source}")]
    Silent {
        /// The plugin's name.
        name: String,
        /// What happened.
        source: HttpError,
    },
    /// Not the answer that there should be.
    #[error("the plugin {name} answers {status} to {method}: {body}")]
    Answer {
        /// The plugin's name.
        name: String,
        /// What was asked.
        method: String,
        /// The HTTP status.
        status: u16,
        /// What it said.
        body: String,
    },
}

/// A plugin by its socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    name: &'static str,
    socket: PathBuf,
}

impl Plugin {
    /// The plugin of this name, below `folder`.
    pub fn new(folder: &Path, name: &'static str) -> Self {
        Self { name, socket: folder.join(format!("{name}.sock")) }
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks `method` (`Plugin.Activate`), which takes no arguments.
    pub async fn ask(&self, method: &str, limit: Duration) -> Result<Value, PluginError> {
        let answer = http::post_unix(&self.socket, &format!("/{method}"), Vec::new(), limit)
            .await
            .map_err(|source| PluginError::Silent { name: self.name.to_owned(), source })?;
        match serde_json::from_slice(&answer.body) {
            Ok(document) if answer.status == 200 => Ok(document),
            _ => Err(self.unexpected(method, answer.status, &String::from_utf8_lossy(&answer.body))),
        }
    }

    /// The error for an answer that is not what there should be.
    pub fn unexpected(&self, method: &str, status: u16, body: &str) -> PluginError {
        let (name, method) = (self.name.to_owned(), method.to_owned());
        PluginError::Answer { name, method, status, body: body.trim().to_owned() }
    }

    /// Removes the socket when nobody listens on it. dockerd tries one that it finds for 15 s, again and again, also
    /// for questions that have nothing to do with it.
    pub async fn remove_if_dead(&self) -> std::io::Result<bool> {
        match UnixStream::connect(&self.socket).await {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(&self.socket).map(|()| true)
            }
            _ => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_dead_socket_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let plugin = Plugin::new(folder.path(), "calico");
        assert!(!plugin.remove_if_dead().await.unwrap(), "there is none");
        let listener = std::os::unix::net::UnixListener::bind(&plugin.socket).unwrap();
        assert!(!plugin.remove_if_dead().await.unwrap());
        drop(listener);
        assert!(plugin.remove_if_dead().await.unwrap());
        assert!(!plugin.socket.exists());
    }

    #[tokio::test]
    async fn a_plugin_that_is_not_there_is_named() {
        let plugin = Plugin::new(Path::new("/nonexistent"), "calico-ipam");
        let error = plugin.ask("Plugin.Activate", Duration::from_secs(1)).await.unwrap_err().to_string();
        assert!(error.contains("calico-ipam") && error.contains("/nonexistent/calico-ipam.sock"), "{error}");
    }
}
