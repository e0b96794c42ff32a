//! What operators ask the master for: the operator API.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use cluster::Cluster;
use serde_json::Value;

/// POSTs a call to the leading master's operator API; its answer.
pub fn call(cluster: &Cluster, call: &Value) -> Value {
    let body = post(cluster, "/api/v1", "application/json", &call.to_string());
    if body.is_empty() { Value::Null } else { serde_json::from_str(&body).unwrap() }
}

/// Removes a framework, as `dcos package uninstall` and operators do.
pub fn teardown(cluster: &Cluster, framework: &str) {
    post(
        cluster,
        "/master/teardown",
        "application/x-www-form-urlencoded",
        &format!("frameworkId={framework}"),
    );
}

fn post(cluster: &Cluster, path: &str, content: &str, body: &str) -> String {
    let url = cluster.master_urls().remove(0);
    let host = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).unwrap();
    let request = format!(
        "POST {path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: {content}\r\nAccept: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.split(' ').nth(1) == Some("200"), "{path}: {answer}");
    body.to_owned()
}
