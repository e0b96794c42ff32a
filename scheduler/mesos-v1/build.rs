//! Compiles the `.proto` files without `protoc`.

use std::io;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(
        [
            "mesos/v1/scheduler/scheduler.proto",
            "mesos/v1/executor/executor.proto",
            "mesos/v1/master/master.proto",
        ],
        ["proto"],
    )
    .map_err(io::Error::other)?;
    prost_build::Config::new()
        // Comments would become documentation tests.
        .disable_comments(["."])
        .bytes(["."])
        .btree_map(["."])
        // `DrainAgent` alone has one; a dependency for it is not worth its while.
        .compile_well_known_types()
        .include_file("api.rs")
        .compile_fds(files)?;
    Ok(())
}
