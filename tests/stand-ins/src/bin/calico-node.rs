//! Stand-in for calico/node.

use std::process::ExitCode;

use calico_stand_ins::{about, node};
use tracing_subscriber::EnvFilter;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None => {}
        Some("--version" | "-v") => {
            println!("{}", about("calico-node"));
            return ExitCode::SUCCESS;
        }
        Some("--help" | "-h") => {
            println!(
                "{}\n\nThe program of the image calico/node; set up by its environment.",
                about("calico-node")
            );
            return ExitCode::SUCCESS;
        }
        Some(other) => {
            eprintln!("calico-node: unknown argument {other:?}; it takes --help or --version only");
            return ExitCode::from(2);
        }
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).init();
    match node::run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // On the standard output like the rest of the log: `docker logs` of one stream tells it all.
            println!("calico-node (stand-in): {error}");
            ExitCode::FAILURE
        }
    }
}
