//! Stand-in for calicoctl.

use std::process::ExitCode;

use calico_stand_ins::ctl;
use clap::Parser;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = match ctl::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = u8::from(error.use_stderr());
            // Nothing is left to be told when even this cannot be printed.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match Box::pin(ctl::run(cli)).await {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("calicoctl (stand-in): {error}");
            ExitCode::FAILURE
        }
    }
}
