//! Strict stand-ins for Calico's own programs, for tests and the demo.
//!
//! None of them is Calico: they keep its interfaces (CNI, environment, etcd keys, health endpoints) as the
//! product sees them, refuse whatever Calico could not work with, and leave out what no test needs:
//! policy, NAT, encapsulation (routes go over the hosts' own network), borrowing of addresses, IPv6.
//!
//! | program | stands in for |
//! | --- | --- |
//! | `calico`, `calico-ipam` | the CNI plugins ([`cni`]) |
//! | `calicoctl` | the tool that writes pools and profiles ([`ctl`]) |
//! | `calico-node` | the only program of the image `calico/node` ([`node`]) |
//! | `libnetwork-plugin` | the only program of the image `calico/libnetwork-plugin` ([`libnetwork`]) |

pub mod cidr;
pub mod cni;
pub mod ctl;
pub mod datastore;
pub mod ipam;
pub mod labels;
pub mod libnetwork;
#[cfg(test)]
mod memory;
pub mod mounts;
pub mod node;
pub mod resources;

/// What each program says of itself.
pub fn about(program: &str) -> String {
    format!("{program} stand-in {} (calico-dcos; this is not Calico)", env!("CARGO_PKG_VERSION"))
}

/// The whole of an image's only program, which takes everything from its environment.
pub async fn image_main<E: std::fmt::Display>(
    program: &str,
    image: &str,
    run: impl AsyncFnOnce() -> Result<(), E>,
) -> std::process::ExitCode {
    use std::process::ExitCode;

    match std::env::args().nth(1).as_deref() {
        None => {}
        Some("--version" | "-v") => {
            println!("{}", about(program));
            return ExitCode::SUCCESS;
        }
        Some("--help" | "-h") => {
            println!("{}\n\nThe program of the image {image}; set up by its environment.", about(program));
            return ExitCode::SUCCESS;
        }
        Some(other) => {
            eprintln!("{program}: unknown argument {other:?}; it takes --help or --version only");
            return ExitCode::from(2);
        }
    }
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).init();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // On the standard output like the rest of the log: `docker logs` of one stream tells it all.
            println!("{program} (stand-in): {error}");
            ExitCode::FAILURE
        }
    }
}
