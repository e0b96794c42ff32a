//! Which cluster store Docker's configuration names, for `status`: in daemon.json, or on the command line.

use std::path::Path;

use super::command_line::CommandLine;
use super::daemon_json;
use super::flags;
use crate::exit::Result;
use crate::host::Host;
use crate::host::systemd::Systemd;
use crate::options::DockerUnitOptions;
use crate::steps::status::{Installed, Seen};

/// What is configured. Where systemd is not reached, daemon.json alone tells, and that is said.
pub async fn seen(host: &Host, options: &DockerUnitOptions) -> Result<Seen> {
    let unit = async { Systemd::connect().await?.unit(&options.docker_unit).await };
    let (line, unseen) = match unit.await {
        Ok(unit) => (CommandLine::of(host, &unit)?, None),
        Err(error) => (CommandLine { flags: Vec::new(), texts: Vec::new() }, Some(error)),
    };
    let file = flags::config_file(&line.flags).map_or(&*options.docker_daemon_json, Path::new);
    let mut seen = in_daemon_json(host, file)?;
    for flag in line.flags.iter().filter(|flag| flag.name == daemon_json::STORE) {
        let place = flags::place(flag, &options.docker_unit, &line.texts);
        seen.what.push(format!("{place} names the store {}", flag.value));
        seen.installed = Installed::Yes;
    }
    if let Some(error) = unseen {
        seen.what.push(format!("flags of {} are not to be seen: {error}", options.docker_unit));
    }
    Ok(seen)
}

fn in_daemon_json(host: &Host, path: &Path) -> Result<Seen> {
    let content = host.files().read(path)?;
    let shown = path.display();
    let (installed, what) = match content.as_deref().map(serde_json::from_slice::<serde_json::Value>) {
        None => (Installed::No, format!("there is no {shown}")),
        Some(Err(error)) => (Installed::Unknown, format!("{shown} is not JSON: {error}")),
        Some(Ok(config)) => match config.get(daemon_json::STORE).and_then(|store| store.as_str()) {
            Some(store) => (Installed::Yes, format!("{shown} names the store {store}")),
            None => (Installed::No, format!("{shown} names no {}", daemon_json::STORE)),
        },
    };
    Ok(Seen { installed, what: vec![what] })
}
