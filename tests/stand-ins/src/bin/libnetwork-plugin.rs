//! Stand-in for Calico's plugin for Docker's networks.

use std::process::ExitCode;

use calico_stand_ins::libnetwork;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    calico_stand_ins::image_main("libnetwork-plugin", "calico/libnetwork-plugin", libnetwork::run).await
}
