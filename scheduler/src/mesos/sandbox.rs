//! A task's sandbox, through its agent: what a failed task said last.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use mesos_v1::http::Connection;
use serde::Deserialize;
use tokio::time::timeout;

use crate::core::{FrameworkId, TaskId};

const LIMIT: Duration = Duration::from_secs(5);
/// As much of the end of the file as is read, in bytes.
const TAIL: u64 = 4096;
/// The lines that are kept.
const LINES: usize = 5;
/// What the dynamic linker of the agent's own helpers writes into every sandbox says nothing.
const NOISE: &str = "no version information available";

/// `/files/read`'s answer.
#[derive(Deserialize)]
struct Part {
    data: String,
    offset: u64,
}

/// The last lines of a task's stderr; nothing when they cannot be had, for whatever reason: they are a help,
/// not a fact that anything depends on.
pub async fn last_lines(agent: &str, framework: &FrameworkId, task: &TaskId) -> Option<String> {
    // The agent's virtual path of an executor's latest run (`paths::getExecutorVirtualPath`).
    let path = format!("/framework/{framework}/executor/{task}/latest/stderr");
    // An offset of -1 asks for the size.
    let size = read(agent, &path, "-1").await?.offset;
    let text = read(agent, &path, &size.saturating_sub(TAIL).to_string()).await?.data;
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains(NOISE)).collect();
    Some(lines[lines.len().saturating_sub(LINES)..].join("; "))
}

async fn read(agent: &str, path: &str, offset: &str) -> Option<Part> {
    let mut connection = Connection::open(agent, LIMIT).await.ok()?;
    let request =
        Request::get(format!("/files/read?path={path}&offset={offset}")).body(Full::<Bytes>::default());
    let response = connection.send(request.ok()?, LIMIT).await.ok()?;
    if response.status != StatusCode::OK {
        return None;
    }
    let body = timeout(LIMIT, response.bytes(1024 * 1024)).await.ok()?.ok()?;
    serde_json::from_slice(&body).ok()
}
