//! `calico-node`: the only program of the stand-in image, which holds no other file.
//!
//! Checks what it is given, registers its host, routes to the other hosts' blocks, lets the host forward the
//! workloads' traffic, and answers as Felix does at `127.0.0.1:9099`. Its routes stay when it ends.

mod environment;
mod forward;
mod health;
mod heartbeat;
mod netfilter;
mod routes;
mod sync;

use std::io;
use std::path::Path;

use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use environment::{Facts, Settings};
use health::Health;
use routes::RoutingTable;

const NODENAME_FILE: &str = "/var/lib/calico/nodename";
const HEARTBEAT_FILE: &str = "/var/log/calico/heartbeat";

/// Why the node does not run.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The environment or the host is not as it must be: all faults.
    #[error("calico-node cannot run here:\n  {}", .0.join("\n  "))]
    Environment(Vec<String>),
    /// The kernel does not answer.
    #[error("cannot ask the kernel for this host's addresses: {0}")]
    Netlink(rtnetlink::Error),
    /// A file, socket or thread failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> NodeError {
    let what = what.into();
    |source| NodeError::Io { what, source }
}

/// Runs until SIGTERM or SIGINT.
pub async fn run() -> Result<(), NodeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(failed("cannot catch SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed("cannot catch SIGINT"))?;
    tokio::select! {
        outcome = work() => outcome,
        _ = terminate.recv() => {
            tracing::info!("SIGTERM: ending; routes stay");
            Ok(())
        }
        _ = interrupt.recv() => Ok(()),
    }
}

async fn work() -> Result<(), NodeError> {
    tracing::info!("{}", crate::about("calico-node"));
    let table = RoutingTable::open().map_err(failed("cannot open a netlink socket"))?;
    let addresses = table.addresses().await.map_err(NodeError::Netlink)?;
    let facts = Facts::read(addresses).map_err(failed("cannot read this container's state from /proc"))?;
    let settings: Settings =
        environment::check(&|name| std::env::var(name).ok(), &facts).map_err(NodeError::Environment)?;

    let listener = health::listen().await.map_err(failed(format!(
        "cannot listen on {}; is a calico-node running already?",
        health::ADDRESS
    )))?;
    let health = Health::new();
    spawn_thread("heartbeat", || heartbeat::beat(Path::new(HEARTBEAT_FILE)))?;
    spawn_thread("forward", forward::keep)?;

    let main = async {
        sync::register(&settings, &health).await;
        // After the registration: the CNI plugin takes the file for the sign that the node is there.
        std::fs::write(NODENAME_FILE, &settings.node)
            .map_err(failed(format!("cannot write {NODENAME_FILE}")))?;
        sync::follow(&settings, &table, &health).await;
        Ok(())
    };
    tokio::select! {
        outcome = main => outcome,
        outcome = health::serve(listener, health.clone()) => outcome.map_err(failed("the health server failed")),
    }
}

fn spawn_thread(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), NodeError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body);
    thread.map(drop).map_err(failed(format!("cannot start the thread {name}")))
}
