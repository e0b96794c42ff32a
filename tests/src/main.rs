//! `cluster`: a real local cluster from a shell.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

/// The exit status when the machine cannot run a cluster.
const CANNOT_RUN_HERE: u8 = 3;

fn main() -> ExitCode {
    // Files of the hosts are read by users other than root, whatever the caller's umask.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    match cli::Cli::parse().run() {
        Ok(status) => status,
        Err(error) => {
            eprintln!("cluster: {error:#}");
            let here = matches!(error.downcast_ref(), Some(cluster::Error::Missing(_)));
            if here { ExitCode::from(CANNOT_RUN_HERE) } else { ExitCode::FAILURE }
        }
    }
}
