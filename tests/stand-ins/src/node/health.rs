//! Felix's health endpoints.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{io, sync::Arc, sync::PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;

/// Where Felix answers.
pub const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9099);
/// The main loop comes by every second; a request to etcd in it may take three.
const STALE: Duration = Duration::from_secs(20);

/// What the node knows of itself, shared with the server.
#[derive(Debug, Clone)]
pub struct Health {
    state: Arc<Mutex<Status>>,
}

#[derive(Debug)]
struct Status {
    seen: Instant,
    ready: Result<(), String>,
}

impl Health {
    /// Alive, and not ready.
    pub fn new() -> Self {
        let status = Status { seen: Instant::now(), ready: Err("the first sync is not done".to_owned()) };
        Self { state: Arc::new(Mutex::new(status)) }
    }

    /// The main loop runs; `ready` is why it is not in sync, if so. Says whether that is news.
    pub fn report(&self, ready: Result<(), String>) -> bool {
        let mut status = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let news = status.ready.is_ok() != ready.is_ok();
        *status = Status { seen: Instant::now(), ready };
        news
    }

    fn live(&self, now: Instant) -> (StatusCode, String) {
        let status = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = now.saturating_duration_since(status.seen);
        if silent < STALE {
            (StatusCode::OK, "live\n".to_owned())
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, format!("the main loop has not run for {silent:?}\n"))
        }
    }

    fn ready(&self) -> (StatusCode, String) {
        match &self.state.lock().unwrap_or_else(PoisonError::into_inner).ready {
            Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
            Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        }
    }
}

/// Listens; a second node on the host fails here.
pub async fn listen() -> io::Result<TcpListener> {
    TcpListener::bind(ADDRESS).await
}

/// Serves `/liveness` and `/readiness` for ever.
pub async fn serve(listener: TcpListener, health: Health) -> io::Result<()> {
    let router = Router::new()
        .route("/liveness", get(|State(health): State<Health>| async move { health.live(Instant::now()) }))
        .route("/readiness", get(|State(health): State<Health>| async move { health.ready() }))
        .with_state(health);
    axum::serve(listener, router).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_ready_only_when_in_sync() {
        let health = Health::new();
        assert_eq!(health.ready().0, StatusCode::SERVICE_UNAVAILABLE);
        assert!(health.report(Ok(())));
        assert_eq!(health.ready().0, StatusCode::OK);
        assert!(health.report(Err("etcd is away".to_owned())));
        assert!(!health.report(Err("etcd is still away".to_owned())));
        assert_eq!(health.ready(), (StatusCode::SERVICE_UNAVAILABLE, "etcd is still away\n".to_owned()));
    }

    #[test]
    fn is_live_while_the_main_loop_runs() {
        let health = Health::new();
        let now = Instant::now();
        assert_eq!(health.live(now).0, StatusCode::OK);
        assert_eq!(health.live(now + STALE * 2).0, StatusCode::SERVICE_UNAVAILABLE);
    }
}
