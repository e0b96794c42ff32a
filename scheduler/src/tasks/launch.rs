//! From a template to Mesos' `TaskInfo`.

use std::time::Duration;

use mesos_v1 as mesos;

use super::template::File;
use super::{Probe, TaskTypes, Template};
use crate::config::Artifact;
use crate::core::{AgentId, TargetHash, TaskId, TaskType};

/// Where a task goes, and what it takes there.
#[derive(Debug, Clone)]
pub struct Place {
    /// The agent.
    pub agent: AgentId,
    /// `host:port` of the agent.
    pub address: String,
    /// Whether it may restart Docker or the Mesos agent: no part of the target, which stays the same.
    pub may_restart: bool,
    /// Whether it only looks whether the install is whole: no part of the target either.
    pub only_looks: bool,
    /// The target of the `prefetch` that was done there last, if it was: what that has fetched is in the cache of the
    /// agent's fetcher.
    pub prefetched: Option<TargetHash>,
    /// The part of the offer.
    pub resources: Vec<mesos::Resource>,
}

impl TaskTypes {
    /// The message that launches `task` with `target`; none when neither this configuration nor an earlier one that is
    /// known has that target.
    pub fn task_info(&self, target: &TargetHash, task: &TaskId, place: Place) -> Option<mesos::TaskInfo> {
        let (task_type, template) = self.templates.get(target)?;
        let cached = match task_type {
            TaskType::Prefetch => Some(template),
            _ => place.prefetched.as_ref().and_then(|target| Some(&self.templates.get(target)?.1)),
        };
        let mut args = if place.only_looks { template.look()? } else { template.args.clone() };
        if place.may_restart {
            args.push("--allow-restart".to_owned());
        }
        // Who looks at it compares by their checksums, and does not need what is put on a host.
        let by_checksum = place.only_looks && *task_type == TaskType::Cni;
        let artifacts = if by_checksum { &[][..] } else { &template.artifacts };
        let uris = uris(template, artifacts, cached.map(|it| &**it));
        let health = template.health.as_ref().map(|probe| mesos::HealthCheck {
            r#type: Some(mesos::health_check::Type::Command.into()),
            command: Some(probe_command(template, probe, &place.address)),
            delay_seconds: Some(0.0),
            interval_seconds: Some(probe.interval.as_secs_f64()),
            timeout_seconds: Some(probe.timeout.as_secs_f64()),
            grace_period_seconds: Some(probe.grace.as_secs_f64()),
            consecutive_failures: Some(probe.failures),
            ..Default::default()
        });
        Some(mesos::TaskInfo {
            // In Mesos' user interface it is told from the install itself.
            name: if place.only_looks { format!("{task_type}-check") } else { task_type.name().to_owned() },
            task_id: (&*task.0).into(),
            agent_id: (&*place.agent.0).into(),
            resources: place.resources,
            command: Some(command(&template.script, template, &args, &place.address, uris)),
            health_check: health,
            check: template.check.as_ref().map(|probe| check(template, probe, &place.address)),
            kill_policy: Some(mesos::KillPolicy { grace_period: Some(duration(template.grace)) }),
            container: container(template),
            labels: Some(mesos::Labels {
                labels: vec![mesos::Label {
                    key: "calico-dcos.target".to_owned(),
                    value: Some(target.to_string()),
                }],
            }),
            ..Default::default()
        })
    }
}

/// What a probe runs. Its task makes the installer executable when that is what the operator configured: a probe that comes
/// before waits for it, within its time. So the installer is not read as a whole by each probe, every few seconds.
const PROBE: &str = r#"while ! [ -x calico-installer ]; do sleep 0.1; done
exec ./calico-installer "$@""#;

/// A probe's command, beside the task.
fn probe_command(template: &Template, probe: &Probe, address: &str) -> mesos::CommandInfo {
    command(PROBE, template, &probe.args, address, Vec::new())
}

/// The script, the installer's SHA-256 as `$0`, and its arguments, which no shell reads.
fn command(
    script: &str,
    template: &Template,
    args: &[String],
    address: &str,
    uris: Vec<mesos::command_info::Uri>,
) -> mesos::CommandInfo {
    let head = ["sh", "-c", script, &template.installer.sha256].map(str::to_owned);
    let variable = mesos::environment::Variable {
        name: "CALICO_MESOS_AGENT".to_owned(),
        value: Some(format!("http://{address}")),
        ..Default::default()
    };
    mesos::CommandInfo {
        uris,
        environment: Some(mesos::Environment { variables: vec![variable] }),
        shell: Some(false),
        value: Some("/bin/sh".to_owned()),
        arguments: head.into_iter().chain(args.iter().cloned()).collect(),
        user: Some(template.user.clone()),
    }
}

/// What the fetcher brings: from its cache what the `prefetch` of `cached` has brought there and checked. Nothing else is
/// in the cache, which keeps what it got, right or wrong.
fn uris(template: &Template, artifacts: &[File], cached: Option<&Template>) -> Vec<mesos::command_info::Uri> {
    let uri = |artifact: &Artifact, output_file: &str| {
        let mut known = cached.into_iter().flat_map(Template::all_artifacts);
        // The cache knows URIs. With the checksum, which no server is told, one that changes its content is another one.
        let is_http = ["http://", "https://"].iter().any(|scheme| artifact.uri.starts_with(scheme));
        let cache = is_http && known.any(|it| it == artifact);
        let checksum = if cache { format!("#sha256={}", artifact.sha256) } else { String::new() };
        mesos::command_info::Uri {
            value: format!("{}{checksum}", artifact.uri),
            executable: Some(false),
            extract: Some(false),
            cache: Some(cache),
            // Names of our own: two URIs may end in the same one.
            output_file: Some(output_file.to_owned()),
        }
    };
    let installer = uri(&template.installer, "calico-installer");
    let artifacts = artifacts.iter().map(|(file, artifact)| uri(artifact, file));
    let private = template.private.iter().map(|(file, artifact)| mesos::command_info::Uri {
        cache: Some(false),
        value: artifact.uri.clone(),
        ..uri(artifact, file)
    });
    std::iter::once(installer).chain(artifacts).chain(private).collect()
}

/// Where a secret of DC/OS is mounted, which its agent gets by the name. A container of Mesos' own on the host's files, as
/// without one; only where there are any, for it takes the agent's isolator `volume/secret`.
fn container(template: &Template) -> Option<mesos::ContainerInfo> {
    if template.secrets.is_empty() {
        return None;
    }
    let volume = |(file, name): &(String, String)| mesos::Volume {
        container_path: file.clone(),
        mode: mesos::volume::Mode::Rw.into(),
        source: Some(mesos::volume::Source {
            r#type: Some(mesos::volume::source::Type::Secret.into()),
            secret: Some(mesos::Secret {
                r#type: Some(mesos::secret::Type::Reference.into()),
                reference: Some(mesos::secret::Reference { name: name.clone(), key: None }),
                ..Default::default()
            }),
        }),
        ..Default::default()
    };
    Some(mesos::ContainerInfo {
        r#type: mesos::container_info::Type::Mesos.into(),
        volumes: template.secrets.iter().map(volume).collect(),
        ..Default::default()
    })
}

fn check(template: &Template, probe: &Probe, address: &str) -> mesos::CheckInfo {
    mesos::CheckInfo {
        r#type: Some(mesos::check_info::Type::Command.into()),
        command: Some(mesos::check_info::Command { command: probe_command(template, probe, address) }),
        delay_seconds: Some(0.0),
        interval_seconds: Some(probe.interval.as_secs_f64()),
        timeout_seconds: Some(probe.timeout.as_secs_f64()),
        ..Default::default()
    }
}

fn duration(duration: Duration) -> mesos::DurationInfo {
    mesos::DurationInfo { nanoseconds: i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX) }
}
