//! A real local cluster: Mesos, etcd, ZooKeeper and agent hosts with systemd and Docker.
#![allow(dead_code)]
mod base_image;
mod cache;
mod cgroups;
mod command;
mod error;
mod lock;
mod mesos_build;
mod mounts;
mod paths;
mod process;
mod progress;
mod spec;
mod state;
/// tmp
pub fn prepare() -> error::Result<()> {
    let p = progress::Progress::stderr();
    std::thread::scope(|s| {
        let a = s.spawn(|| base_image::get(&p));
        println!("{:?}", mesos_build::get(&p));
        println!("{:?}", a.join().unwrap());
    });
    Ok(())
}
