//! The fetcher that a Mesos agent runs to put a task's files into its sandbox.

use std::process::ExitCode;

use mesos_helpers::fetcher;

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("mesos-fetcher: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let json = std::env::var("MESOS_FETCHER_INFO").ok();
    match runtime.block_on(fetcher::run(json.as_deref())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesos-fetcher: {error}");
            ExitCode::FAILURE
        }
    }
}
