//! `preflight`: what can be told of this host before anything is installed. Changes nothing, and goes on after what it
//! finds, so that an operator has all of it at once.
//!
//! Each file here is one area, and adds its findings to the [`Findings`]. To add a check: a function that takes
//! `(&Host, &PreflightOptions)` or a part of them, called in [`preflight`].

use std::fmt;

use serde::Serialize;

use crate::exit::{Exit, Failure, Result};
use crate::host::Host;
use crate::options::PreflightOptions;

mod host;
mod network;
mod services;

/// How a finding is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Something will not be had, but nothing fails.
    Warning,
    /// The install would fail.
    Fault,
    /// What would be needed to look was not given.
    Skipped,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: `docker`, `etcd`.
    pub check: &'static str,
    /// How it is meant.
    pub severity: Severity,
    /// What was found, and for a fault what would be right.
    pub text: String,
}

/// All that was found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Findings {
    findings: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, check: &'static str, severity: Severity, text: impl Into<String>) {
        self.findings.push(Finding { check, severity, text: text.into() });
    }

    fn ok(&mut self, check: &'static str, text: impl Into<String>) {
        self.add(check, Severity::Ok, text);
    }

    fn warning(&mut self, check: &'static str, text: impl Into<String>) {
        self.add(check, Severity::Warning, text);
    }

    fn fault(&mut self, check: &'static str, text: impl Into<String>) {
        self.add(check, Severity::Fault, text);
    }

    fn skipped(&mut self, check: &'static str, text: impl Into<String>) {
        self.add(check, Severity::Skipped, text);
    }

    /// How many faults there are.
    fn faults(&self) -> usize {
        self.findings.iter().filter(|it| it.severity == Severity::Fault).count()
    }

    /// What the process ends with: a failure that names all faults.
    pub fn outcome(&self) -> Result<()> {
        let faults: Vec<String> = self
            .findings
            .iter()
            .filter(|it| it.severity == Severity::Fault)
            .map(|it| format!("{}: {}", it.check, it.text))
            .collect();
        if faults.is_empty() {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Unsuitable,
            format!("this host cannot have it as it is: {}", faults.join("; ")),
        ))
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Finding { check, severity, text }) in self.findings.iter().enumerate() {
            let mark = match severity {
                Severity::Ok => "ok     ",
                Severity::Warning => "warning",
                Severity::Fault => "FAULT  ",
                Severity::Skipped => "skipped",
            };
            let line = if number == 0 { "" } else { "\n" };
            write!(f, "{line}{mark} {check}: {text}")?;
        }
        Ok(())
    }
}

/// Looks at everything.
pub async fn preflight(host: &Host, options: &PreflightOptions) -> Findings {
    let mut findings = Findings::default();
    host::user(&mut findings);
    host::journal(&mut findings, host, &options.state.state_dir);
    if let Ok(encapsulation) = options.line.encapsulation() {
        host::kernel(&mut findings, host, encapsulation);
    }
    host::artifacts(&mut findings, &options.artifact);
    services::docker(&mut findings, &options.docker.socket).await;
    services::cluster_size(&mut findings, options.agents, options.max.docker_max_agents);
    network::capacity(&mut findings, options);
    network::overlaps(&mut findings, host, options).await;
    services::dcos_calico(&mut findings, host, options.network_name.as_ref()).await;
    let upstream = services::upstream(host, options).await;
    let members = upstream.as_ref().map_or(Vec::new(), |upstream| upstream.endpoints.clone());
    services::etcd(&mut findings, options, upstream).await;
    services::agent(&mut findings, host, options, &members).await;
    findings
}
