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

/// DC/OS says it: all else that it tells others of the host has that address, too.
#[tokio::test]
async fn docker_is_known_in_the_store_by_the_address_that_dcos_says() {
    use std::os::unix::fs::PermissionsExt;

    use clap::Parser;

    use crate::cli::{Cli, Command, DockerStoreCommand};

    let root = tempfile::tempdir().unwrap();
    let host = Host::below(root.path());
    let script = host.place("/opt/mesosphere/bin/detect_ip");
    std::fs::create_dir_all(script.parent().unwrap()).unwrap();
    std::fs::write(&script, "#!/bin/sh\necho no interface >&2; exit 1\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let options = |more: &str| {
        let line = format!(
            "calico-installer docker-cluster-store check --etcd-endpoints http://127.0.0.1:2379 {more}"
        );
        match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
            Command::DockerClusterStore(DockerStoreCommand::Check(options)) => options,
            other => panic!("{other:?}"),
        }
    };
    let said = options("").wanted(&host).await.unwrap_err().to_string();
    assert!(said.contains("detect_ip failed: no interface") && said.contains("--node-ip"), "{said}");
    // What is given goes before it.
    for (given, expected) in
        [("--node-ip 127.0.0.1", "127.0.0.1:2376"), ("--docker-cluster-advertise 10.0.0.1:99", "10.0.0.1:99")]
    {
        assert_eq!(options(given).wanted(&host).await.unwrap().advertise.to_string(), expected);
    }
}
