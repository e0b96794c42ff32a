//! The artifact server: the files of one folder, and a registry with the images of Calico's services.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::registry::Image;

/// The port of every artifact server.
pub(crate) const PORT: u16 = 8080;
/// An image that it holds: of one program, which is an artifact.
#[derive(Debug)]
pub(crate) struct ServedImage {
    pub repository: &'static str,
    pub tag: &'static str,
    pub program: &'static str,
}

/// The image of calico-node.
pub(crate) const NODE_IMAGE: ServedImage =
    ServedImage { repository: "calico/node", tag: "v3.14.0", program: "calico-node" };
/// The same of another version: what an upgrade brings.
pub(crate) const NEXT_NODE_IMAGE: ServedImage = ServedImage { tag: "v3.14.1", ..NODE_IMAGE };
/// One that calls itself another version of it, and ends at once with an error: it is no service.
pub(crate) const BROKEN_NODE_IMAGE: ServedImage =
    ServedImage { tag: "v3.14.2", program: "calicoctl", ..NODE_IMAGE };
/// The image of Calico's plugin for Docker's networks.
pub(crate) const LIBNETWORK_IMAGE: ServedImage =
    ServedImage { repository: "calico/libnetwork-plugin", tag: "v1.1.3", program: "libnetwork-plugin" };

#[derive(Debug)]
struct Shelf {
    folder: PathBuf,
    images: Vec<Image>,
}

/// Serves the files of `folder` at `/NAME`, and below `/v2/` the images of those programs that it has.
pub fn serve(listen: SocketAddr, folder: &Path) -> io::Result<()> {
    let mut images = Vec::new();
    for ServedImage { repository, tag, program } in
        [NODE_IMAGE, NEXT_NODE_IMAGE, BROKEN_NODE_IMAGE, LIBNETWORK_IMAGE]
    {
        match std::fs::read(folder.join(program)) {
            Ok(bytes) => images.push(Image::of_program(repository, tag, program, &bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let shelf = Arc::new(Shelf { folder: folder.to_owned(), images });
    let app = Router::new()
        .route("/", get(|| async { "artifact server\n" }))
        .route("/v2/", get(|| async { ([("Docker-Distribution-Api-Version", "registry/2.0")], "{}") }))
        .route("/v2/{*path}", get(registry_content))
        .route("/{name}", get(file))
        .with_state(shelf);
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen).await?;
        axum::serve(listener, app).await
    })
}

async fn registry_content(State(shelf): State<Arc<Shelf>>, UrlPath(path): UrlPath<String>) -> Response {
    let Some(content) = shelf.images.iter().find_map(|image| image.find(&path)) else {
        let error = r#"{"errors":[{"code":"NAME_UNKNOWN","message":"this registry does not have it"}]}"#;
        return (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "application/json")], error).into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, content.media_type),
        (header::HeaderName::from_static("docker-content-digest"), &content.digest),
    ];
    (headers, content.bytes.clone()).into_response()
}

async fn file(State(shelf): State<Arc<Shelf>>, UrlPath(name): UrlPath<String>) -> Response {
    // A decoded name may hold a slash.
    if Path::new(&name).file_name().is_none_or(|last| last != name.as_str()) {
        return StatusCode::NOT_FOUND.into_response();
    }
    match tokio::fs::read(shelf.folder.join(&name)).await {
        Ok(bytes) => {
            ([(header::CONTENT_TYPE, "application/octet-stream")], Body::from(bytes)).into_response()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => StatusCode::NOT_FOUND.into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
