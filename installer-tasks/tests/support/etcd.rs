//! Real etcds on loopback, with and without TLS, and names that lead to them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use tempfile::TempDir;

/// The domain of [`Names`], and the host in it.
pub const DOMAIN: &str = "etcd.test";
const HOST: &str = "one.etcd.test";

/// Waits for something, generously.
pub fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let since = Instant::now();
    while !there() {
        assert!(since.elapsed() < Duration::from_secs(40), "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// `N` addresses that were free a moment ago, and differ.
pub fn free<const N: usize>() -> [SocketAddr; N] {
    let all = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    all.map(|listener| listener.local_addr().unwrap())
}

/// The program that `make test` names.
pub fn program(name: &str) -> PathBuf {
    let etcd = std::env::var_os("ETCD_BINARY").expect("ETCD_BINARY names etcd");
    Path::new(&etcd).with_file_name(name)
}

/// A certificate authority, and one certificate of it for members and clients.
pub struct Certificates {
    directory: TempDir,
}

impl Certificates {
    /// For 127.0.0.1 and [`DOMAIN`], or for another name alone.
    pub fn new(names: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        // grpc-proxy takes no other: with authentication, a common name would be a user's.
        params.distinguished_name = DistinguishedName::new();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &authority).unwrap();
        for (name, text) in
            [("ca.pem", authority.pem()), ("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())]
        {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        Self { directory }
    }

    /// As most are: for 127.0.0.1, and [`DOMAIN`].
    pub fn usual() -> Self {
        Self::new(&["127.0.0.1", DOMAIN, HOST])
    }

    /// `ca.pem`, `cert.pem` or `key.pem`.
    pub fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// As the installer takes them.
    pub fn options(&self) -> Vec<String> {
        ["ca", "cert", "key"]
            .map(|name| format!("--etcd-{name}={}", self.path(&format!("{name}.pem"))))
            .into()
    }
}

/// An etcd, which ends with it.
pub struct Etcd {
    child: Child,
    directory: TempDir,
    /// Where its clients find it.
    pub client: SocketAddr,
    /// Where its peers do.
    pub peer: SocketAddr,
    certificates: Option<Arc<Certificates>>,
    v2: bool,
}

impl Etcd {
    /// With the v2 API, and TLS for clients and peers when there are certificates.
    pub fn start(certificates: Option<&Arc<Certificates>>) -> Self {
        Self::start_at(free(), certificates, true)
    }

    /// At these addresses, of clients and peers.
    pub fn start_at(
        [client, peer]: [SocketAddr; 2],
        certificates: Option<&Arc<Certificates>>,
        v2: bool,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let certificates = certificates.cloned();
        let child = spawn(directory.path(), client, peer, certificates.as_deref(), v2);
        let etcd = Self { child, directory, client, peer, certificates, v2 };
        etcd.answers();
        etcd
    }

    /// Waits until it serves.
    fn answers(&self) {
        let endpoint = self.endpoint();
        wait_for("an etcd that serves", || {
            ctl(&endpoint, self.certificates.as_deref(), &["get", "none"]).status.success()
        });
    }

    /// `http://…` or `https://…`.
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme(), self.client)
    }

    /// The same for peers.
    pub fn peer_url(&self) -> String {
        format!("{}://{}", self.scheme(), self.peer)
    }

    fn scheme(&self) -> &'static str {
        if self.certificates.is_some() { "https" } else { "http" }
    }

    /// Ends it; what it holds is kept.
    pub fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again with what it held.
    pub fn again(&mut self) {
        self.end();
        self.child =
            spawn(self.directory.path(), self.client, self.peer, self.certificates.as_deref(), self.v2);
        self.answers();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.end();
    }
}

fn spawn(
    directory: &Path,
    client: SocketAddr,
    peer: SocketAddr,
    certificates: Option<&Certificates>,
    v2: bool,
) -> Child {
    let scheme = if certificates.is_some() { "https" } else { "http" };
    let (client, peer) = (format!("{scheme}://{client}"), format!("{scheme}://{peer}"));
    let mut command = Command::new(program("etcd"));
    command
        .arg("--data-dir")
        .arg(directory.join("data"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        .arg(format!("--enable-v2={v2}"));
    if let Some(certificates) = certificates {
        for side in ["", "peer-"] {
            for (flag, name) in [("trusted-ca", "ca"), ("cert", "cert"), ("key", "key")] {
                command.arg(format!("--{side}{flag}-file={}", certificates.path(&format!("{name}.pem"))));
            }
            command.arg(format!("--{side}client-cert-auth"));
        }
    }
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// `etcdctl` of the v3 API.
pub fn ctl(endpoint: &str, certificates: Option<&Certificates>, arguments: &[&str]) -> Output {
    let mut command = Command::new(program("etcdctl"));
    command.env_clear().env("ETCDCTL_API", "3").args(["--command-timeout=3s", "--endpoints", endpoint]);
    if let Some(certificates) = certificates {
        for (flag, name) in [("cacert", "ca"), ("cert", "cert"), ("key", "key")] {
            command.arg(format!("--{flag}={}", certificates.path(&format!("{name}.pem"))));
        }
    }
    command.args(arguments).output().unwrap()
}

/// `etcdctl` of the v2 API, which asks the endpoint alone.
pub fn ctl_v2(endpoint: &str, certificates: Option<&Certificates>, arguments: &[&str]) -> Output {
    let mut command = Command::new(program("etcdctl"));
    command.env_clear().env("ETCDCTL_API", "2").args(["--no-sync", "--endpoints", endpoint]);
    if let Some(certificates) = certificates {
        for (flag, name) in [("ca-file", "ca"), ("cert-file", "cert"), ("key-file", "key")] {
            command.arg(format!("--{flag}={}", certificates.path(&format!("{name}.pem"))));
        }
    }
    command.args(arguments).output().unwrap()
}

/// A DNS server that knows the SRV records of one etcd in [`DOMAIN`].
pub struct Names {
    address: SocketAddr,
    directory: TempDir,
    over: Arc<AtomicBool>,
}

impl Names {
    /// Its records are those of TLS when the etcd speaks it.
    pub fn of(etcd: &Etcd) -> Self {
        let own = u8::try_from(std::process::id() % 250).unwrap() + 2;
        // Port 53 is the only one that resolvers ask: an address of this test's own.
        let socket =
            UdpSocket::bind((Ipv4Addr::new(127, 53, own, u8::from(etcd.certificates.is_some()) + 1), 53));
        let socket = socket.expect("root, who may listen on port 53");
        let address = socket.local_addr().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let resolv = format!("nameserver {}\noptions ndots:1 timeout:1\n", address.ip());
        std::fs::write(directory.path().join("resolv.conf"), resolv).unwrap();
        let suffix = if etcd.certificates.is_some() { "-ssl" } else { "" };
        let services = [
            (format!("_etcd-client{suffix}._tcp.{DOMAIN}"), etcd.client.port()),
            (format!("_etcd-server{suffix}._tcp.{DOMAIN}"), etcd.peer.port()),
        ];
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        std::thread::spawn(move || {
            let mut packet = [0; 512];
            while !ended.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut packet) else { continue };
                let _ = socket.send_to(&answer(&packet[..length], &services), from);
            }
        });
        Self { address, directory, over }
    }

    /// The same command, for which this is the only DNS server.
    pub fn seen_by(&self, command: &Command) -> Command {
        let mut seen = Command::new("unshare");
        seen.args(["--mount", "--", "sh", "-c", r#"mount --bind "$0" /etc/resolv.conf && exec "$@""#])
            .arg(self.directory.path().join("resolv.conf"))
            .arg(command.get_program())
            .args(command.get_args())
            .env_clear();
        seen.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        assert!(self.address.port() == 53);
        seen
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// RFC 1035, 4: the header, the question as it was, and a record when it is known.
fn answer(query: &[u8], services: &[(String, u16)]) -> Vec<u8> {
    let (mut labels, mut at) = (Vec::new(), 12);
    while query[at] != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..=at + length]).to_lowercase());
        at += length + 1;
    }
    let (name, kind, end) = (labels.join("."), u16::from_be_bytes([query[at + 1], query[at + 2]]), at + 5);
    let port = services.iter().find(|(service, _)| *service == name).map(|(_, port)| *port);
    let data = match (kind, port) {
        (33, Some(port)) => {
            // Priority, weight and port, then the target.
            let mut data = [&[0, 0, 0, 0][..], &port.to_be_bytes()].concat();
            for label in HOST.split('.') {
                data.push(u8::try_from(label.len()).unwrap());
                data.extend(label.bytes());
            }
            data.push(0);
            Some(data)
        }
        (1, _) if name == HOST => Some(vec![127, 0, 0, 1]),
        _ => None,
    };
    let mut packet = query[..2].to_vec();
    // An answer, with authority, to a question that asked for recursion.
    packet.extend([0x85, 0x80, 0, 1, 0, u8::from(data.is_some()), 0, 0, 0, 0]);
    packet.extend(&query[12..end]);
    if let Some(data) = data {
        // Its name is that of the question; class IN, a second of life.
        packet.extend([0xc0, 12]);
        packet.extend(kind.to_be_bytes());
        packet.extend([0, 1, 0, 0, 0, 1]);
        packet.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        packet.extend(data);
    }
    packet
}
