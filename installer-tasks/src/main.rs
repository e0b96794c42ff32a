//! `calico-installer`: see [`calico_installer::cli`].

use std::process::ExitCode;

use calico_installer::cli::Cli;
use calico_installer::exit::Exit;
use calico_installer::host::Host;
use calico_installer::{label_wrapper, say};
use clap::Parser;

fn main() -> ExitCode {
    let plugin = std::env::current_exe()
        .ok()
        .and_then(|own| label_wrapper::plugin(std::env::args_os().next().as_deref(), &own));
    if let Some(plugin) = plugin {
        return label_wrapper::run(&plugin);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(Exit::Unsuitable as u8)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say::progress(format_args!("error: cannot start the asynchronous runtime: {error}"));
            return ExitCode::from(Exit::Bug as u8);
        }
    };
    match runtime.block_on(cli.run(&Host::default())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say::progress(format_args!("error: {}", failure.one_line()));
            ExitCode::from(failure.exit() as u8)
        }
    }
}
