//! Files of a task's sandbox, through its agent.

use std::net::SocketAddr;

use serde_json::Value;

use crate::http;

/// The agent's own limit for one answer is higher.
const PIECE: usize = 50_000;

/// Reads a whole file from the sandbox of the task with this ID, through the API of its agent.
pub(super) fn read(agent: SocketAddr, task: &str, file: &str) -> Result<String, String> {
    let state = get(agent, "/state")?;
    let directory = directory(&state, task).ok_or_else(|| format!("the agent {agent} does not know it"))?;
    let mut text = String::new();
    loop {
        let offset = text.len();
        let path = format!("/files/read?path={directory}/{file}&offset={offset}&length={PIECE}");
        let piece = get(agent, &path)?;
        match piece["data"].as_str() {
            Some("") => return Ok(text),
            Some(data) => text.push_str(data),
            None => return Err(format!("the agent {agent} answered {piece}")),
        }
    }
}

fn get(agent: SocketAddr, path: &str) -> Result<Value, String> {
    let body = http::get(agent, path)?;
    serde_json::from_slice(&body).map_err(|error| format!("http://{agent}{path}: no JSON: {error}"))
}

/// The sandbox of a command task: its executor, live or completed, has its ID.
fn directory<'a>(state: &'a Value, task: &str) -> Option<&'a str> {
    let list = |value: &'a Value, key| value[key].as_array().into_iter().flatten();
    let frameworks = list(state, "frameworks").chain(list(state, "completed_frameworks"));
    let mut executors = frameworks.flat_map(|f| list(f, "executors").chain(list(f, "completed_executors")));
    executors.find(|executor| executor["id"] == task)?["directory"].as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn live_and_completed_executors_are_found() {
        let state = json!({
            "frameworks": [{"executors": [{"id": "a", "directory": "/a"}], "completed_executors": [{"id": "b", "directory": "/b"}]}],
            "completed_frameworks": [{"completed_executors": [{"id": "c", "directory": "/c"}]}],
        });
        for task in ["a", "b", "c"] {
            assert_eq!(directory(&state, task), Some(format!("/{task}").as_str()));
        }
        assert_eq!(directory(&state, "d"), None);
    }
}
