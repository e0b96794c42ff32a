//! `etcd-proxy` in all its modes, in front of a real etcd: what is sent through arrives, and an etcd that is away is waited
//! for.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

mod support;
use support::etcd::{Certificates, DOMAIN, Etcd, Names, ctl, ctl_v2, free, program, wait_for};
use support::{expect, installer, text};

const MODES: [&str; 3] = ["gateway", "grpc-proxy", "v2-proxy"];

/// A proxy that runs; it ends with it.
struct Proxy {
    child: Child,
    /// The options of its `check`.
    options: Vec<String>,
    listen: SocketAddr,
    directory: TempDir,
}

impl Proxy {
    /// `run` as `change` makes it.
    fn start(mode: &str, place: &[String], change: impl Fn(&Command) -> Command) -> Self {
        let (directory, [listen]) = (tempfile::tempdir().unwrap(), free());
        let etcd = directory.path().join("etcd");
        fs::copy(program("etcd"), &etcd).unwrap();
        let sha256 = calico_installer::host::files::sha256_of(&etcd).unwrap();
        let options = [place, &[format!("--etcd-proxy={mode}"), format!("--etcd-listen={listen}")]].concat();
        let mut command = installer();
        command.args(["etcd-proxy", "run"]).args(&options);
        command.arg(format!("--artifacts-etcd={}#sha256={sha256}", etcd.display()));
        let log = |name: &str| fs::File::create(directory.path().join(name)).unwrap();
        let child = change(&command).stdout(log("out")).stderr(log("err")).spawn().unwrap();
        Self { child, options, listen, directory }
    }

    fn said(&self) -> String {
        ["out", "err"].map(|name| fs::read_to_string(self.directory.path().join(name)).unwrap()).concat()
    }

    fn runs(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "{ended:?}: {}", self.said());
    }

    fn wait_ready(&mut self) {
        wait_for("a proxy that is ready", || {
            self.runs();
            self.said().contains("ready: etcd is read through")
        });
    }

    fn check(&self) -> Output {
        installer().args(["etcd-proxy", "check"]).args(&self.options).output().unwrap()
    }

    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.listen)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Its own end takes etcd with it.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

fn as_it_is(command: &Command) -> Command {
    let mut same = Command::new(command.get_program());
    same.args(command.get_args()).env_clear();
    same.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    same
}

/// The options that say where an etcd is.
fn place(etcd: &Etcd, certificates: Option<&Certificates>) -> Vec<String> {
    let endpoints =
        [format!("--etcd-endpoints={}", etcd.endpoint()), format!("--etcd-peer-urls={}", etcd.peer_url())];
    endpoints.into_iter().chain(certificates.into_iter().flat_map(Certificates::options)).collect()
}

/// Writes through the proxy with each API that it serves, and reads what was written at etcd itself.
fn assert_forwards(proxy: &Proxy, mode: &str, etcd: &Etcd, certificates: Option<&Certificates>) {
    // TLS is passed through, or ends at the proxy.
    let through = if mode == "gateway" { certificates } else { None };
    let url = proxy.url(if through.is_some() { "https" } else { "http" });
    let done = |output: Output| {
        assert!(output.status.success(), "{mode} {url}: {}", text(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    if mode != "v2-proxy" {
        done(ctl(&url, through, &["put", "/three", mode]));
        let read = done(ctl(&etcd.endpoint(), certificates, &["get", "--print-value-only", "/three"]));
        assert_eq!(read, mode);
    }
    if mode == "grpc-proxy" {
        assert!(!ctl_v2(&url, through, &["set", "/two", mode]).status.success(), "v2 through {mode}");
    } else {
        done(ctl_v2(&url, through, &["set", "/two", mode]));
        assert_eq!(done(ctl_v2(&etcd.endpoint(), certificates, &["get", "/two"])), mode);
    }
}

#[test]
#[ignore = "needs etcd: ETCD_BINARY"]
fn each_mode_forwards_what_its_clients_send() {
    let certificates = Arc::new(Certificates::usual());
    for tls in [None, Some(&certificates)] {
        let etcd = Etcd::start(tls);
        let tls = tls.map(Arc::as_ref);
        for mode in MODES {
            let mut proxy = Proxy::start(mode, &place(&etcd, tls), as_it_is);
            proxy.wait_ready();
            expect(&proxy.check(), 0, &["etcd is read through"]);
            assert_forwards(&proxy, mode, &etcd, tls);
            // Where it listens nobody else can: who holds it is named.
            let mut second = installer();
            second.args(["etcd-proxy", "run"]).args(&proxy.options);
            let program = proxy.directory.path().join("etcd");
            let sha256 = calico_installer::host::files::sha256_of(&program).unwrap();
            second.arg(format!("--artifacts-etcd={}#sha256={sha256}", program.display()));
            let output = second.stdin(Stdio::null()).output().unwrap();
            expect(&output, 75, &[&proxy.listen.to_string(), "is in use by etcd (pid "]);
            proxy.runs();
        }
    }
}

/// One mode's part of the next test.
fn outlives_an_outage(mode: &str, certificates: Option<&Arc<Certificates>>) {
    // Where etcd will be.
    let addresses: [SocketAddr; 2] = free();
    let scheme = if certificates.is_some() { "https" } else { "http" };
    let options: Vec<String> = [("endpoints", addresses[0]), ("peer-urls", addresses[1])]
        .map(|(name, address)| format!("--etcd-{name}={scheme}://{address}"))
        .into_iter()
        .chain(certificates.iter().flat_map(|it| it.options()))
        .collect();
    let mut proxy = Proxy::start(mode, &options, as_it_is);
    wait_for("that etcd is waited for", || {
        proxy.runs();
        proxy.said().contains("not ready yet")
    });
    expect(&proxy.check(), 1, &["error: etcd is not read"]);
    let mut etcd = Etcd::start_at(addresses, certificates, true);
    proxy.wait_ready();
    etcd.end();
    wait_for("that the outage is seen", || {
        proxy.runs();
        !proxy.check().status.success()
    });
    etcd.again();
    wait_for("that etcd is read again", || {
        proxy.runs();
        proxy.check().status.success()
    });
    assert_forwards(&proxy, mode, &etcd, certificates.map(Arc::as_ref));
}

#[test]
#[ignore = "needs etcd: ETCD_BINARY"]
fn etcd_is_waited_for_at_the_start_and_in_every_outage() {
    let certificates = Arc::new(Certificates::usual());
    std::thread::scope(|scope| {
        for mode in MODES {
            for tls in [None, Some(&certificates)] {
                scope.spawn(move || outlives_an_outage(mode, tls));
            }
        }
    });
}

#[test]
#[ignore = "needs etcd: ETCD_BINARY, and root"]
fn each_mode_finds_the_members_by_srv_records() {
    let certificates = Arc::new(Certificates::usual());
    for tls in [None, Some(&certificates)] {
        let etcd = Etcd::start(tls);
        let names = Names::of(&etcd);
        let tls = tls.map(Arc::as_ref);
        for mode in MODES {
            let srv = [format!("--etcd-discovery-srv={DOMAIN}")].into_iter();
            let options: Vec<String> = srv.chain(tls.into_iter().flat_map(Certificates::options)).collect();
            let mut proxy = Proxy::start(mode, &options, |command| names.seen_by(command));
            proxy.wait_ready();
            assert_forwards(&proxy, mode, &etcd, tls);
        }
    }
}

#[test]
#[ignore = "needs etcd: ETCD_BINARY"]
fn what_is_in_the_way_of_reading_etcd_is_said() {
    let check = |options: &[String], mode: &str, listen: SocketAddr| {
        let mut command = installer();
        command.args(["etcd-proxy", "check"]).args(options);
        command.args(["--etcd-proxy", mode, "--etcd-listen", &listen.to_string()]).output().unwrap()
    };
    // Its certificate is for another name than the one that clients of a gateway use.
    let certificates = Arc::new(Certificates::new(&["localhost"]));
    let [client, peer] = free();
    let etcd = Etcd::start_at([client, peer], None, false);
    expect(
        &check(&place(&etcd, None), "v2-proxy", etcd.client),
        1,
        &["does not serve the v2 API: run it with --enable-v2"],
    );
    drop(etcd);
    let [tls_client, tls_peer] = free();
    let localhost = |address: SocketAddr| format!("https://localhost:{}", address.port());
    let mut named = Command::new(program("etcd"));
    let directory = tempfile::tempdir().unwrap();
    named
        .arg("--data-dir")
        .arg(directory.path())
        .args(["--listen-client-urls", &format!("https://{tls_client}"), "--advertise-client-urls"])
        .args([
            &localhost(tls_client),
            "--listen-peer-urls",
            &format!("http://{tls_peer}"),
            "--client-cert-auth",
        ])
        .args(["--initial-advertise-peer-urls", &format!("http://{tls_peer}")])
        .args(["--initial-cluster", &format!("default=http://{tls_peer}")])
        .args(
            [("trusted-ca", "ca"), ("cert", "cert"), ("key", "key")]
                .map(|(flag, name)| format!("--{flag}-file={}", certificates.path(&format!("{name}.pem")))),
        );
    let mut child = named.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let served = std::panic::catch_unwind(|| {
        wait_for("an etcd that serves", || {
            ctl(&localhost(tls_client), Some(&certificates), &["get", "none"]).status.success()
        });
        let options: Vec<String> = [format!("--etcd-endpoints={}", localhost(tls_client))]
            .into_iter()
            .chain(certificates.options())
            .collect();
        let words = ["not valid for name", "must be for 127.0.0.1 as well; --etcd-proxy grpc-proxy"];
        expect(&check(&options, "gateway", tls_client), 1, &words);
        // Another authority's.
        let others = Certificates::usual();
        let options: Vec<String> = [format!("--etcd-endpoints={}", localhost(tls_client))]
            .into_iter()
            .chain(others.options())
            .collect();
        expect(&check(&options, "gateway", tls_client), 1, &["certificate"]);
    });
    let _ = child.kill();
    let _ = child.wait();
    served.unwrap();
}

/// It is healthy for everybody: only who reads Calico's keys meets its permissions.
#[test]
#[ignore = "needs etcd: ETCD_BINARY"]
fn an_etcd_that_permits_nothing_without_a_user_is_told_before_an_install() {
    let preflight = |etcd: &Etcd, tls: Option<&Certificates>, more: &[&str]| {
        let mut command = installer();
        command.args(["preflight", "--docker-socket=/nonexistent", "--node-ip=127.0.0.1"]).args(more);
        command.arg(format!("--etcd-endpoints={}", etcd.endpoint()));
        command.args(tls.into_iter().flat_map(Certificates::options));
        let said = text(&command.output().unwrap());
        said.lines().find(|line| line.contains(" etcd: ")).unwrap_or_default().to_owned()
    };
    let certificates = Arc::new(Certificates::usual());
    for tls in [None, Some(&certificates)] {
        let etcd = Etcd::start(tls);
        let tls = tls.map(Arc::as_ref);
        for api in [&[][..], &["--node-profile=v2.6"]] {
            let line = preflight(&etcd, tls, api);
            assert!(line.starts_with("ok ") && line.contains("Calico's keys can be read"), "{line}");
        }
        for words in [
            &["user", "add", "root:secret"][..],
            &["user", "grant-role", "root", "root"],
            &["auth", "enable"],
        ] {
            assert!(ctl(&etcd.endpoint(), tls, words).status.success(), "{words:?}");
        }
        let line = preflight(&etcd, tls, &[]);
        assert!(line.contains("etcdserver: user name is empty"), "{line}");
        // Whose certificate it is cannot be asked for in this way.
        let expected = if tls.is_some() { "warning" } else { "FAULT" };
        assert!(line.starts_with(expected) && line.contains("--etcd-cert"), "{line}");
    }
}

/// etcd has it up to 3.5, and from 3.4 on only when it is told to: Calico v2.6 and Docker's cluster store are of no use without.
#[test]
#[ignore = "needs etcd: ETCD_BINARY"]
fn an_etcd_without_the_v2_api_is_told_before_an_install() {
    let preflight = |etcd: &Etcd, more: &[&str]| {
        let mut command = installer();
        command.args(["preflight", "--docker-socket=/nonexistent", "--node-ip=127.0.0.1"]).args(more);
        command.arg(format!("--etcd-endpoints={}", etcd.endpoint()));
        text(&command.output().unwrap())
    };
    let line = |said: &str, check: &str| {
        said.lines().find(|line| line.contains(&format!(" {check}: "))).unwrap_or_default().to_owned()
    };
    let (with, without) = (Etcd::start(None), Etcd::start_at(free(), None, false));
    for (etcd, profile, etcd_line, store_line) in [
        (&with, "v3", "ok ", "ok "),
        (&with, "v2.6", "ok ", "ok "),
        (&without, "v3", "ok ", "warning"),
        (&without, "v2.6", "FAULT", "warning"),
    ] {
        let said = preflight(etcd, &["--node-profile", profile]);
        let (of_calico, of_docker) = (line(&said, "etcd"), line(&said, "docker.cluster-store"));
        assert!(of_calico.starts_with(etcd_line), "{profile}: {said}");
        assert_eq!(etcd_line == "FAULT", of_calico.contains("--enable-v2"), "{profile}: {said}");
        assert!(of_docker.starts_with(store_line), "{profile}: {said}");
        assert_eq!(store_line == "warning", of_docker.contains("--enable-v2"), "{profile}: {said}");
    }
    let said = preflight(&without, &["--docker-cluster-store=etcd://10.0.0.9:2379"]);
    assert!(line(&said, "docker.cluster-store").starts_with("skipped"), "{said}");
}

/// As the other commands are told of it.
#[test]
#[ignore = "needs etcd: ETCD_BINARY, and mounts, which takes root"]
fn preflight_finds_the_members_by_srv_records() {
    let etcd = Etcd::start(None);
    let names = Names::of(&etcd);
    let mut command = installer();
    command.args(["preflight", "--docker-socket=/nonexistent", "--node-ip=127.0.0.1"]);
    command.arg(format!("--etcd-discovery-srv={DOMAIN}"));
    let said = text(&names.seen_by(&command).output().unwrap());
    assert!(said.lines().any(|line| line.starts_with("ok ") && line.contains(" etcd: it answers")), "{said}");
    command.arg(format!("--etcd-endpoints={}", etcd.endpoint()));
    assert!(text(&names.seen_by(&command).output().unwrap()).contains("give one of them"));
    let mut elsewhere = installer();
    elsewhere.args(["preflight", "--docker-socket=/nonexistent", "--node-ip=127.0.0.1"]);
    elsewhere.arg("--etcd-discovery-srv=none.test");
    let said = text(&names.seen_by(&elsewhere).output().unwrap());
    let fault = "etcd: --etcd-discovery-srv none.test does not lead to etcd";
    assert!(said.lines().any(|line| line.starts_with("FAULT") && line.contains(fault)), "{said}");
}

#[test]
fn combinations_that_cannot_work_are_refused_before_anything_runs() {
    let refuse = |arguments: &str, words: &[&str]| {
        let output = installer().args(arguments.split(' ')).output().unwrap();
        expect(&output, 78, words);
    };
    let artifact = format!("/nonexistent#sha256={}", "0".repeat(64));
    let (http, https) = ("--etcd-endpoints=http://127.0.0.1:1", "--etcd-endpoints=https://127.0.0.1:1");
    for (arguments, words) in [
        (format!("{http} --etcd-proxy=direct"), &["has no proxy to run"][..]),
        (format!("{http} --etcd-proxy=v2-proxy"), &["--etcd-peer-urls", "--etcd-discovery-srv"]),
        (https.to_owned(), &["speaks TLS", "--etcd-ca"]),
        (format!("{http} --etcd-discovery-srv=a.b"), &["give one of them"]),
        (format!("{https} --etcd-ca=/a --etcd-key=/k"), &["--etcd-key is given without its --etcd-cert"]),
        (format!("{https} --etcd-ca=/nonexistent/ca"), &["/nonexistent/ca"]),
        ("--etcd-discovery-srv=http://a".to_owned(), &["DNS name", "etcd.example.com"]),
        ("--etcd-ca=/a#sha256=12".to_owned(), &["PATH#sha256=HEX"]),
        ("--etcd-proxy=tunnel".to_owned(), &["gateway, grpc-proxy, v2-proxy, direct"]),
        ("--etcd-proxy=gateway".to_owned(), &["--etcd-endpoints"]),
    ] {
        refuse(&format!("etcd-proxy run {arguments} --artifacts-etcd={artifact}"), words);
    }
    let node = "node run --node-image i --node-cpus 1 --node-mem 64 --docker-socket /nonexistent";
    refuse(
        &format!("{node} {http} --etcd-proxy=v2-proxy"),
        &["--node-profile v3 needs the v3 API", "gateway, grpc-proxy or direct"],
    );
    let libnetwork = "libnetwork run --libnetwork-image i --libnetwork-cpus 1 --libnetwork-mem 64";
    refuse(&format!("{libnetwork} {http} --etcd-proxy=v2-proxy"), &["libnetwork needs the v3 API"]);
    refuse(
        &format!("{libnetwork} {http} --node-profile=v2.6"),
        &["calico-node v2.6 has Docker's plugin inside", "--node-libnetwork", "CALICO_NODE_LIBNETWORK=true"],
    );
    let store = "docker-cluster-store check --docker-socket /nonexistent --node-ip 127.0.0.1";
    refuse(
        &format!("{store} {http} --etcd-proxy=grpc-proxy"),
        &["without a --docker-cluster-store of its own, needs the v2 API"],
    );
}

/// A key that was fetched is nobody else's to read.
#[test]
fn a_key_in_the_sandbox_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;

    let (sandbox, certificates) = (tempfile::tempdir().unwrap(), Certificates::usual());
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        fs::copy(certificates.path(name), sandbox.path().join(name)).unwrap();
        fs::set_permissions(sandbox.path().join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let [listen] = free();
    let output = installer()
        .current_dir(sandbox.path())
        .args(["etcd-proxy", "check", "--etcd-endpoints=https://127.0.0.1:1", "--etcd-ca=ca.pem"])
        .args(["--etcd-cert=cert.pem", "--etcd-key=./key.pem", &format!("--etcd-listen={listen}")])
        .output()
        .unwrap();
    expect(&output, 1, &["cannot connect"]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&sandbox.path().join("key.pem")), 0o600);
    assert_eq!(mode(&sandbox.path().join("ca.pem")), 0o644);
}
