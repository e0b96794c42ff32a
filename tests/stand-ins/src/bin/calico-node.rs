//! Stand-in for calico/node.

use std::process::ExitCode;

use calico_stand_ins::node;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    calico_stand_ins::image_main("calico-node", "calico/node", node::run).await
}
