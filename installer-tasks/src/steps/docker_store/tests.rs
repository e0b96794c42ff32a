use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;

use super::*;
use crate::options::DockerOptions;

/// A Docker that says of itself, once, that it has this store.
fn docker(socket: &Path, store: &str) {
    let listener = UnixListener::bind(socket).unwrap();
    let body = format!(r#"{{"ClusterStore":"{store}"}}"#);
    std::thread::spawn(move || {
        let (mut asked, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let length = asked.read(&mut request).unwrap();
        assert!(request[..length].starts_with(b"GET /info "));
        write!(asked, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    });
}

/// What is to be done to take back what was recorded.
async fn next(store: &str, allow_restart: bool, complete: bool) -> Result<Stage<Action>> {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    docker(&socket, store);
    let unit = DockerUnitOptions {
        docker_unit: "docker.service".to_owned(),
        docker_daemon_json: "/etc/docker/daemon.json".into(),
        docker: DockerOptions { socket },
    };
    let restarts = RestartOptions { allow_restart };
    let undo = DockerStoreUndo { unit: &unit, state_dir: directory.path(), restarts, complete, force: false };
    let recorded = Recorded { entries: Vec::new(), unfinished: None };
    undo.next(&Host::below(directory.path()), &recorded).await
}

#[tokio::test]
async fn an_undo_that_is_to_be_complete_asks_for_the_restart_that_it_takes() {
    let store = "etcd://127.0.0.1:2379";
    let asked = next(store, false, true).await.unwrap_err();
    assert_eq!(asked.exit(), Exit::RestartNeeded);
    let said = asked.to_string();
    assert!(said.contains(store) && said.contains("--allow-restart"), "{said}");

    let restarts = |stage: Stage<Action>| (stage.actions.len(), stage.notes.len());
    assert_eq!(restarts(next(store, true, true).await.unwrap()), (1, 0), "it is allowed");
    assert_eq!(restarts(next(store, false, false).await.unwrap()), (0, 1), "it need not be complete");
    assert_eq!(restarts(next("", false, true).await.unwrap()), (0, 0), "Docker has no store");
}
