//! `etcd-proxy`: an etcd gateway on this host, so that clients here need to know only one address.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::exit::{Exit, Failure, Result};
use crate::host::process::{self, StopSignals};
use crate::host::{Host, artifact, http, ports};
use crate::options::{EtcdOptions, EtcdProxyOptions};
use crate::say;
use crate::values::{Endpoint, EtcdProxy, Scheme};

/// How long one read of etcd may take.
const READ_LIMIT: Duration = Duration::from_secs(3);
/// How long the gateway leaves a member alone that it could not reach. Its own default, a minute, would cut every host
/// off for as long after each outage.
const MEMBER_AGAIN: Duration = Duration::from_secs(10);
/// How often the first read is tried.
const POLL: Duration = Duration::from_millis(250);
/// How long the proxy has to end after SIGTERM: below Mesos' own default grace period of 3 s.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// The arguments of etcd that make it the proxy.
fn arguments(options: &EtcdOptions) -> Result<Vec<String>> {
    match options.proxy {
        EtcdProxy::Gateway => {
            // Checked here, so that the gateway serves one kind of members only.
            options.local()?;
            let members: Vec<String> = options.endpoints.iter().map(Endpoint::authority).collect();
            Ok(vec![
                "gateway".to_owned(),
                "start".to_owned(),
                format!("--listen-addr={}", options.listen),
                format!("--endpoints={}", members.join(",")),
                format!("--retry-delay={}s", MEMBER_AGAIN.as_secs()),
            ])
        }
        EtcdProxy::Direct => Err(Failure::unsuitable(
            "--etcd-proxy direct has no proxy to run: clients use --etcd-endpoints themselves",
        )),
        EtcdProxy::GrpcProxy | EtcdProxy::V2Proxy => Err(options.unsupported()),
    }
}

/// Runs the proxy until SIGTERM or until it ends by itself. Never returns success: a service that has ended is not
/// finished.
pub async fn run(host: &Host, options: &EtcdProxyOptions) -> Result<()> {
    let mut signals = StopSignals::take()?;
    let arguments = arguments(&options.etcd)?;
    let program = artifact::program(&options.artifacts_etcd, "etcd")?;
    check_address_is_free(host, &options.etcd)?;

    let mut child = Command::new(&program).args(&arguments).kill_on_drop(true).spawn().map_err(|error| {
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

/// Waits for the end of the proxy, and meanwhile says when etcd was read through it for the first time.
async fn serve(child: &mut Child, options: &EtcdOptions) -> Failure {
    let status = tokio::select! {
        status = child.wait() => status,
        never = announce(options) => match never {},
    };
    match status {
        Ok(status) => Failure::new(Exit::No, format!("the proxy ended by itself ({status})")),
        Err(error) => Failure::new(Exit::Bug, "cannot wait for the proxy").because(error),
    }
}

async fn announce(options: &EtcdOptions) -> Infallible {
    let start = Instant::now();
    let mut said = false;
    while let Err(failure) = read(options).await {
        // It needs a moment to listen.
        if start.elapsed() > READ_LIMIT && !std::mem::replace(&mut said, true) {
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
        std::io::ErrorKind::AddrInUse => {
            let holder = ports::holder(host, address)
                .unwrap_or_else(|| "something that /proc does not show".to_owned());
            Failure::new(Exit::TryAgain, format!("--etcd-listen {address} is in use by {holder}"))
        }
        std::io::ErrorKind::AddrNotAvailable => {
            Failure::unsuitable(format!("--etcd-listen {address} is not an address of this host"))
        }
        std::io::ErrorKind::PermissionDenied => {
            Failure::new(Exit::NotPermitted, format!("listening on --etcd-listen {address} is not permitted"))
        }
        _ => Failure::new(Exit::TryAgain, format!("cannot listen on --etcd-listen {address}")).because(error),
    })
}

/// Reads from etcd as clients on this host do.
pub async fn check(options: &EtcdOptions) -> Result<()> {
    read(options).await?;
    let through: Vec<String> = options.for_clients()?.iter().map(ToString::to_string).collect();
    say::result(format_args!("etcd is read through {}", through.join(",")));
    Ok(())
}

/// Succeeds when any of the clients' endpoints serves etcd.
async fn read(options: &EtcdOptions) -> Result<()> {
    let mut failure = None;
    for endpoint in options.for_clients()? {
        match read_one(&endpoint).await {
            Ok(()) => return Ok(()),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| Failure::new(Exit::No, "there is no endpoint to read from")))
}

/// `/health` is a linearizable read of the cluster. Behind TLS, which we do not speak, a connection that the
/// gateway keeps open shows that it has reached a member: else it closes it at once.
async fn read_one(endpoint: &Endpoint) -> Result<()> {
    let no = |text: String| Failure::new(Exit::No, text);
    if endpoint.scheme == Scheme::Https {
        let connect = TcpStream::connect((endpoint.host.as_str(), endpoint.port));
        let stream = timeout(READ_LIMIT, connect)
            .await
            .map_err(|_| no(format!("{endpoint}: no connection in time")))?;
        let stream = stream.map_err(|error| no(format!("cannot connect to {endpoint}")).because(error))?;
        let closed = timeout(POLL, stream.readable()).await.is_ok();
        return if closed {
            Err(no(format!("{endpoint} closes the connection: no member behind it")))
        } else {
            Ok(())
        };
    }
    let answer = http::get(endpoint, "/health", READ_LIMIT)
        .await
        .map_err(|error| no("etcd is not read".into()).because(error))?;
    if answer.status == 200 {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&answer.body);
    Err(no(format!("etcd at {endpoint} is not healthy: it answers {} {}", answer.status, text.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(endpoints: &[&str], proxy: EtcdProxy) -> EtcdOptions {
        let endpoints = endpoints.iter().map(|text| text.parse().unwrap()).collect();
        EtcdOptions { endpoints, proxy, listen: "127.0.0.1:2379".parse().unwrap() }
    }

    #[test]
    fn the_gateway_gets_addresses_without_scheme() {
        let arguments =
            arguments(&options(&["https://a:2379", "https://[fd00::1]:2379"], EtcdProxy::Gateway)).unwrap();
        assert_eq!(
            arguments,
            [
                "gateway",
                "start",
                "--listen-addr=127.0.0.1:2379",
                "--endpoints=a:2379,[fd00::1]:2379",
                "--retry-delay=10s"
            ]
        );
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        for (proxy, words) in [
            (EtcdProxy::Direct, "no proxy to run"),
            (EtcdProxy::GrpcProxy, "not supported yet"),
            (EtcdProxy::V2Proxy, "not supported yet"),
        ] {
            let failure = arguments(&options(&["http://a:1"], proxy)).unwrap_err();
            assert_eq!(failure.exit(), Exit::Unsuitable);
            assert!(failure.to_string().contains(words), "{failure}");
        }
    }
}
