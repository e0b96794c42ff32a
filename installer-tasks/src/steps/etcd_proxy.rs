//! `etcd-proxy`: a proxy to etcd on this host, so that clients here need to know only one address.
//!
//! It is ready when etcd was read through it, as its clients do. Whatever becomes of etcd later is no reason to end it.

use std::convert::Infallible;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use std::{fs, io};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::sleep;

use crate::exit::{Exit, Failure, Result};
use crate::host::files::FileError;
use crate::host::process::{self, StopSignals};
use crate::host::{Host, artifact, dns, etcd, ports};
use crate::options::{EtcdOptions, EtcdProxyOptions, UpstreamOptions};
use crate::say;
use crate::steps::etcd_tls;
use crate::values::{DnsName, Endpoint, EtcdProxy, Scheme};

mod arguments;

use arguments::{ForV2, arguments};

/// How long etcd may take to be read before it is said that it is waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often the first read is tried.
const POLL: Duration = Duration::from_millis(250);
/// How long the proxy has to end after SIGTERM: below Mesos' own default grace period of 3 s.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// The directory that etcd remembers members in, beside its program.
const DATA: &str = ".etcd-proxy";
/// What rustls says of a certificate that is for other names.
const WRONG_NAME: &str = "not valid for name";

/// Runs the proxy until SIGTERM or until it ends by itself. Never returns success: a service that has ended is not
/// finished.
pub async fn run(host: &Host, options: &EtcdProxyOptions) -> Result<()> {
    let mut signals = StopSignals::take()?;
    let program_of = &options.artifacts_etcd;
    let data = std::path::absolute(program_of.path.with_file_name(DATA))
        .map_err(FileError::io("find", &program_of.path))?;
    let found = peers(host, &options.etcd).await?;
    let arguments = arguments(&options.etcd, &ForV2 { found, data: &data })?;
    options.etcd.upstream.tls()?.as_ref().map(etcd_tls::verify).transpose()?;
    let program = artifact::program(program_of, "etcd")?;
    check_address_is_free(host, &options.etcd)?;
    forget(&data)?;

    let mut command = Command::new(&program);
    command.args(&arguments).stderr(Stdio::piped()).kill_on_drop(true);
    // What is not given as a flag, etcd takes from there.
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"ETCD_") {
            command.env_remove(name);
        }
    }
    let mut child = command.spawn().map_err(|error| {
        Failure::unsuitable(format!("cannot run {}: is it etcd for this machine?", program.display()))
            .because(error)
    })?;
    say::progress(format_args!(
        "etcd {} runs as pid {}",
        arguments.join(" "),
        child.id().unwrap_or_default()
    ));
    tokio::select! {
        signal = signals.received() => {
            process::end(&mut child, STOP_GRACE).await;
            Err(Failure::new(Exit::Terminated, format!("ended by {signal}; the proxy is stopped")))
        }
        failure = serve(&mut child, &options.etcd) => Err(failure),
    }
}

/// The peers of v2-proxy by SRV records. We look for them ourselves: etcd 3.4 gives up where there are none of
/// `_etcd-server-ssl`, whatever there is of `_etcd-server`.
async fn peers(host: &Host, options: &EtcdOptions) -> Result<Vec<Endpoint>> {
    let (EtcdProxy::V2Proxy, Some(name)) = (options.proxy, &options.upstream.discovery_srv) else {
        return Ok(Vec::new());
    };
    by_srv(host, "_etcd-server", name, &options.upstream).await
}

/// Where the SRV records of one of etcd's services (`_etcd-server`, `_etcd-client`) lead to; with TLS it has `-ssl` at its end.
pub(super) async fn by_srv(
    host: &Host,
    service: &str,
    name: &DnsName,
    upstream: &UpstreamOptions,
) -> Result<Vec<Endpoint>> {
    let (scheme, ssl) = match upstream.tls()? {
        None => (Scheme::Http, ""),
        Some(_) => (Scheme::Https, "-ssl"),
    };
    let found = dns::srv(host, &format!("{service}{ssl}._tcp.{name}")).await;
    let found = found.map_err(|error| {
        Failure::new(Exit::Unavailable, format!("--etcd-discovery-srv {name} does not lead to etcd"))
            .because(error)
    })?;
    Ok(found.into_iter().map(|(host, port)| Endpoint { scheme, host, port }).collect())
}

/// Takes away what an earlier proxy has remembered.
fn forget(data: &Path) -> Result<()> {
    match fs::remove_dir_all(data) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError::io("remove", data)(error).into())
        }
        _ => Ok(()),
    }
}

/// Waits for the end of the proxy, and meanwhile says when etcd was read through it for the first time.
async fn serve(child: &mut Child, options: &EtcdOptions) -> Failure {
    let stderr = child.stderr.take();
    let end = async { tokio::join!(child.wait(), pass_on(stderr)) };
    let (status, last) = tokio::select! {
        end = end => end,
        never = announce(options) => match never {},
    };
    match status {
        Ok(status) => {
            let failure = Failure::new(Exit::No, format!("the proxy ended by itself ({status})"));
            if last.is_empty() { failure } else { failure.also(format!("its last words: {last}")) }
        }
        Err(error) => Failure::new(Exit::Bug, "cannot wait for the proxy").because(error),
    }
}

/// Says what the proxy says, to its end; gives its last line.
async fn pass_on(stderr: Option<ChildStderr>) -> String {
    let mut last = String::new();
    if let Some(stderr) = stderr {
        let mut lines = BufReader::new(stderr).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            let line = String::from_utf8_lossy(&line);
            say::progress(&line);
            if !line.trim().is_empty() {
                line.trim().clone_into(&mut last);
            }
        }
    }
    last
}

async fn announce(options: &EtcdOptions) -> Infallible {
    let start = Instant::now();
    let mut said = false;
    while let Err(failure) = read(options).await {
        // It needs a moment to listen.
        if start.elapsed() > PATIENCE && !std::mem::replace(&mut said, true) {
            say::progress(format_args!("not ready yet: {}", failure.one_line()));
        }
        sleep(POLL).await;
    }
    say::result(format_args!("ready: etcd is read through {}", options.listen));
    std::future::pending().await
}

fn check_address_is_free(host: &Host, options: &EtcdOptions) -> Result<()> {
    let address = options.listen;
    ports::try_listen(address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            let holder = ports::holder(host, address)
                .unwrap_or_else(|| "something that /proc does not show".to_owned());
            Failure::new(Exit::TryAgain, format!("--etcd-listen {address} is in use by {holder}"))
        }
        io::ErrorKind::AddrNotAvailable => {
            Failure::unsuitable(format!("--etcd-listen {address} is not an address of this host"))
        }
        io::ErrorKind::PermissionDenied => {
            Failure::new(Exit::NotPermitted, format!("listening on --etcd-listen {address} is not permitted"))
        }
        _ => Failure::new(Exit::TryAgain, format!("cannot listen on --etcd-listen {address}")).because(error),
    })
}

/// Reads from etcd as clients on this host do.
pub async fn check(options: &EtcdOptions) -> Result<()> {
    read(options).await?;
    let (_, through) = options.client()?.variable();
    say::result(format_args!("etcd is read through {through}"));
    Ok(())
}

/// Succeeds when any of the clients' endpoints serves etcd.
async fn read(options: &EtcdOptions) -> Result<()> {
    let client = options.client()?;
    let tls = client.tls.as_ref().map(etcd_tls::connector).transpose()?;
    let mut failure = None;
    for endpoint in client.endpoints()? {
        let served = match options.proxy {
            EtcdProxy::V2Proxy => etcd::serves_v2(endpoint, tls.as_ref()).await,
            _ => etcd::serves(endpoint, tls.as_ref()).await,
        };
        match served {
            Ok(()) => return Ok(()),
            Err(error) => failure = Some(Failure::new(Exit::No, "etcd is not read").because(error)),
        }
    }
    let failure = failure.unwrap_or_else(|| Failure::new(Exit::No, "there is no endpoint to read from"));
    let passes_tls_through = options.proxy == EtcdProxy::Gateway && tls.is_some();
    Err(if passes_tls_through && failure.one_line().contains(WRONG_NAME) {
        failure.also(format!(
            "a gateway passes TLS through, so the members' certificates must be for {} as well; --etcd-proxy grpc-proxy and \
             direct do not need that",
            options.listen.ip()
        ))
    } else {
        failure
    })
}
