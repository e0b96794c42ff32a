//! What operators ask the master for.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use cluster::Cluster;

/// Removes a framework, as `dcos package uninstall` and operators do.
pub fn teardown(cluster: &Cluster, framework: &str) {
    let url = cluster.master_urls().remove(0);
    let host = url.trim_start_matches("http://");
    let body = format!("frameworkId={framework}");
    let mut stream = TcpStream::connect(host).unwrap();
    let request = format!(
        "POST /master/teardown HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.split(' ').nth(1) == Some("200"), "{answer}");
}
