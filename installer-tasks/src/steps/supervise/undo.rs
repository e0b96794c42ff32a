//! What a service leaves on its host when nobody ended it in order: its container, and its plugins' sockets.

use std::path::Path;

use super::is_of;
use crate::exit::Result;
use crate::host::container::TASK_LABEL;
use crate::host::docker::{Docker, DockerError};
use crate::host::plugin::Plugin;
use crate::steps::model::{Undone, UndoneItem};

/// Ends and removes the container, where it is ours, within `grace` seconds; says whether it was there.
pub(super) async fn remove_ours(
    docker: &Docker,
    name: &str,
    task: &str,
    grace: i32,
) -> Result<bool, DockerError> {
    let Some(container) = docker.container(name).await?.filter(|container| is_of(container, task)) else {
        return Ok(false);
    };
    docker.stop(&container.id, grace).await?;
    docker.remove(&container.id).await?;
    Ok(true)
}

/// Takes back what is left of the service `step`, whose container is called `name`. Its image stays.
pub async fn undo(
    step: &'static str,
    socket: &Path,
    (name, task): (&str, &str),
    plugins: &[Plugin],
    grace: i32,
) -> Result<Undone> {
    let docker = Docker::connect(socket).await?;
    let mut undone = Undone { step, items: Vec::new(), notes: Vec::new() };
    if remove_ours(&docker, name, task, grace).await? {
        undone.items.push(UndoneItem::Done { action: format!("removed the container {name}") });
    } else if docker.container(name).await?.is_some() {
        let note =
            format!("the container {name} is not ours, without the label {TASK_LABEL}={task}: it stays");
        undone.notes.push(note);
    }
    for plugin in plugins {
        match plugin.remove_if_dead().await {
            Ok(true) => undone.items.push(UndoneItem::Removed { path: plugin.socket().to_owned() }),
            Ok(false) => {}
            Err(error) => undone.notes.push(format!("{} stays: {error}", plugin.socket().display())),
        }
    }
    Ok(undone)
}
