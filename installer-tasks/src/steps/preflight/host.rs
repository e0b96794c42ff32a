//! The host itself.

use std::path::Path;

use super::Findings;
use crate::host::{Host, artifact};
use crate::journal::Document;
use crate::steps::node::kernel::{self, Need};
use crate::values::{Artifact, Encapsulation};

/// Files below /etc and /opt, sysctls and modules are root's.
pub(super) fn user(findings: &mut Findings) {
    match rustix::process::geteuid().as_raw() {
        0 => findings.ok("user", "root"),
        uid => findings.fault("user", format!("user ID {uid}: the installer must run as root")),
    }
}

/// The journal can be read, and written.
pub(super) fn journal(findings: &mut Findings, host: &Host, state_dir: &Path) {
    let check = "journal";
    let shown = state_dir.display();
    match Document::read(host.files(), state_dir) {
        Err(failure) => findings.fault(check, failure.one_line()),
        Ok(document) if !document.unfinished.is_empty() => {
            findings.warning(
                check,
                format!("{shown} tells of a run that was interrupted, which the next one finishes"),
            );
        }
        Ok(_) => {}
    }
    let there = state_dir.ancestors().find(|above| above.is_dir());
    match there {
        Some(there) if host.files().is_writable_directory(there) => {
            findings.ok(check, format!("{shown} can be written"));
        }
        _ => findings.fault(check, format!("{shown} cannot be written: give another --state-dir")),
    }
}

/// The kernel has what Calico needs, or can be given it.
pub(super) fn kernel(findings: &mut Findings, host: &Host, encapsulation: Encapsulation) {
    for Need { name, met, needed, text } in kernel::needs(host, encapsulation) {
        let text = format!("{name}: {text}");
        match (met, needed) {
            (true, _) => findings.ok("kernel", text),
            (false, true) => findings.fault("kernel", text),
            (false, false) => findings.warning("kernel", text),
        }
    }
}

/// Artifacts are what they should be.
pub(super) fn artifacts(findings: &mut Findings, artifacts: &[Artifact]) {
    if artifacts.is_empty() {
        findings.skipped("artifacts", "none was given as --artifact");
    }
    for it in artifacts {
        match artifact::verify(it) {
            Ok(()) => {
                findings.ok("artifacts", format!("{} has the hash that it should have", it.path.display()));
            }
            Err(failure) => findings.fault("artifacts", failure.one_line()),
        }
    }
}
