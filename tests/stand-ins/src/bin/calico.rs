//! Stand-in for Calico's CNI plugin.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    calico_stand_ins::cni::main(calico_stand_ins::cni::calico::Calico).await
}
