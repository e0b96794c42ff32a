//! `libnetwork-plugin`: the only program of the stand-in image of `calico/libnetwork-plugin`, which holds no other
//! file. Docker's remote network driver `calico` and IPAM driver `calico-ipam`, each on a socket of its own.
//!
//! Addresses come from the same blocks as those of CNI. A Join makes the veth pair, and on the host what Felix would:
//! the route to the container and proxy ARP; Docker moves the other end and sets addresses and routes in the
//! container. As Calico's own, it leaves its sockets behind when it ends.

mod environment;
mod host;
mod plugin;
mod protocol;

use std::io;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as UrlPath, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::json;
use thiserror::Error;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

use host::Host;
use plugin::{Plugin, Surroundings, answer};

/// Why the plugin does not run.
#[derive(Debug, Error)]
pub enum LibnetworkError {
    /// The environment is not as it must be: all faults.
    #[error("libnetwork-plugin cannot run here:\n  {}", .0.join("\n  "))]
    Environment(Vec<String>),
    /// A file or socket failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> LibnetworkError {
    let what = what.into();
    |source| LibnetworkError::Io { what, source }
}

/// Runs until SIGTERM.
pub async fn run() -> Result<(), LibnetworkError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(failed("cannot catch SIGTERM"))?;
    tracing::info!("{}", crate::about("libnetwork-plugin"));
    let mounts = crate::mounts::mounted(&environment::MOUNTS)
        .map_err(failed("cannot read this container's mounts from /proc"))?;
    let settings = environment::check(&|name| std::env::var(name).ok(), &mounts)
        .map_err(LibnetworkError::Environment)?;
    tracing::info!("this host is {:?}", settings.node);
    let host = Arc::new(Host::new(settings).map_err(failed("cannot open a netlink socket"))?);
    let folder = Path::new(environment::PLUGINS);
    let network = listen(folder, Plugin::Network)?;
    let ipam = listen(folder, Plugin::Ipam)?;
    tokio::select! {
        ended = axum::serve(network, router(Plugin::Network, Arc::clone(&host))) => ended.map_err(failed("a server failed")),
        ended = axum::serve(ipam, router(Plugin::Ipam, host)) => ended.map_err(failed("a server failed")),
        _ = terminate.recv() => {
            tracing::info!("SIGTERM: ending; the sockets stay");
            Ok(())
        }
    }
}

/// Takes the place of a socket that is there: who listened on it has ended.
fn listen(folder: &Path, plugin: Plugin) -> Result<UnixListener, LibnetworkError> {
    let socket = folder.join(format!("{}.sock", plugin.name()));
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed(format!("cannot remove {}", socket.display()))(error));
        }
        _ => {}
    }
    let listener =
        UnixListener::bind(&socket).map_err(failed(format!("cannot listen on {}", socket.display())))?;
    tracing::info!("listening on {}", socket.display());
    Ok(listener)
}

fn router<S: Surroundings + 'static>(plugin: Plugin, around: Arc<S>) -> Router {
    Router::new().route("/{method}", post(respond::<S>)).with_state((plugin, around))
}

async fn respond<S: Surroundings + 'static>(
    State((plugin, around)): State<(Plugin, Arc<S>)>,
    UrlPath(method): UrlPath<String>,
    body: Bytes,
) -> Response {
    let (status, document) = match answer(&*around, plugin, &method, &body).await {
        Ok(document) => (StatusCode::OK, document),
        Err(refusal) => {
            tracing::warn!("{method}: {refusal}");
            (StatusCode::INTERNAL_SERVER_ERROR, json!({"Err": refusal.to_string()}))
        }
    };
    tracing::info!("{method} {} -> {document}", String::from_utf8_lossy(&body));
    (status, [(header::CONTENT_TYPE, protocol::MEDIA_TYPE)], document.to_string()).into_response()
}

#[cfg(test)]
mod tests;
