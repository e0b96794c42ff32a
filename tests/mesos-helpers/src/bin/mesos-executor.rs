//! The command executor that a Mesos agent starts for each command task.

use std::process::ExitCode;

use clap::Parser as _;
use mesos_helpers::executor::{
    self,
    settings::{Arguments, Settings},
};

fn main() -> ExitCode {
    let settings = match Settings::from_environment(Arguments::parse()) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("mesos-executor: {error}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(executor::run(settings)),
        Err(error) => {
            eprintln!("mesos-executor: cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}
