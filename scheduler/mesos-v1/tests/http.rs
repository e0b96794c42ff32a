//! The HTTP part over real sockets, against servers that write raw bytes.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use futures::StreamExt as _;
use http::{HeaderMap, HeaderValue};
use mesos_v1::{
    http::{Connection, HttpError},
    recordio::RecordError,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};

const SECOND: Duration = Duration::from_secs(1);

/// Serves one connection: reads a request, writes each part by itself, hands back the request.
async fn serve(parts: &[&'static str]) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let parts = parts.to_vec();
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = socket.read(&mut request).await.unwrap();
        for part in parts {
            socket.write_all(part.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    (authority, server)
}

#[tokio::test]
async fn records_of_a_chunked_stream_split_anywhere() {
    let (authority, server) = serve(&[
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nMesos-Stream-Id: s1\r\n\r\n",
        "4\r\n5\nhe\r\n",
        "6\r\nllo1\n!\r\n",
        "0\r\n\r\n",
    ])
    .await;
    let mut connection = Connection::open(&authority, SECOND).await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("Mesos-Stream-Id", HeaderValue::from_static("s0"));
    let response = connection.post("/api/v1/scheduler", &headers, "body", SECOND).await.unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(response.header("mesos-stream-id"), Some("s1"));
    let records: Vec<_> = response.records(100).map(|record| record.unwrap()).collect().await;
    assert_eq!(records, ["hello", "!"]);

    let request = server.await.unwrap().to_ascii_lowercase();
    assert!(request.starts_with("post /api/v1/scheduler http/1.1\r\n"));
    for line in [
        &format!("host: {authority}"),
        "content-type: application/x-protobuf",
        "accept: application/x-protobuf",
        "mesos-stream-id: s0",
        "content-length: 4",
    ] {
        assert!(request.contains(line), "{line} missing in {request}");
    }
}

#[tokio::test]
async fn a_stream_cut_inside_a_record_is_an_error_then_the_end() {
    let (authority, _server) =
        serve(&["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "4\r\n5\nhe\r\n0\r\n\r\n"]).await;
    let mut connection = Connection::open(&authority, SECOND).await.unwrap();
    let response = connection.post("/", &HeaderMap::new(), "", SECOND).await;
    let mut records = response.unwrap().records(100);
    let error = records.next().await.unwrap().unwrap_err();
    assert!(matches!(error, RecordError::Truncated { got: 2 }), "{error}");
    assert!(records.next().await.is_none());
}

#[tokio::test]
async fn a_redirect_is_handed_to_the_caller() {
    let (authority, _server) =
        serve(&["HTTP/1.1 307 Temporary Redirect\r\nLocation: //h:1/p\r\nContent-Length: 5\r\n\r\nmoved"])
            .await;
    let mut connection = Connection::open(&authority, SECOND).await.unwrap();
    let response = connection.post("/", &HeaderMap::new(), "", SECOND).await;
    let response = response.unwrap();
    assert_eq!(response.status, 307);
    assert_eq!(response.header("location"), Some("//h:1/p"));
    assert_eq!(response.bytes(5).await.unwrap(), "moved");
}

#[tokio::test]
async fn limits_hold() {
    let (authority, _server) = serve(&["HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ntoobig"]).await;
    let mut connection = Connection::open(&authority, SECOND).await.unwrap();
    let response = connection.post("/", &HeaderMap::new(), "", SECOND).await;
    let error = response.unwrap().bytes(5).await.unwrap_err();
    assert!(matches!(error, HttpError::BodyTooLong { limit: 5, .. }));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let mut connection = Connection::open(&authority, SECOND).await.unwrap();
    let limit = Duration::from_millis(20);
    let error = connection.post("/", &HeaderMap::new(), "", limit).await;
    let error = error.unwrap_err().to_string();
    assert_eq!(error, format!("{authority} did not answer within 20ms"));

    drop(listener);
    let error = Connection::open(&authority, SECOND).await.unwrap_err();
    assert!(error.to_string().contains(&authority), "{error}");
}
