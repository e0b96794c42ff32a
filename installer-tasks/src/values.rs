//! The values that options have, each checked once, when it is read.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;

mod plain;

pub use plain::{ipv4, number, socket};

/// A value that is not what its option wants; the option's name is added by the parser.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ValueError {
    /// Not `http[s]://host:port`.
    #[error("it must have the form http://HOST:PORT or https://HOST:PORT ({0})")]
    Endpoint(&'static str),
    /// Not `PATH#sha256=HEX`.
    #[error("it must have the form PATH#sha256=HEX, with 64 hexadecimal digits ({0})")]
    Artifact(&'static str),
    /// Not a path, or not `PATH#sha256=HEX`.
    #[error("it must be PATH, or PATH#sha256=HEX with 64 hexadecimal digits ({0})")]
    PinnedFile(&'static str),
    /// Not a DNS name.
    #[error("it must be a DNS name such as etcd.example.com ({0})")]
    DnsName(&'static str),
    /// Not an IPv4 block.
    #[error("it must be an IPv4 block such as 192.168.0.0/16 ({0})")]
    Cidr(&'static str),
    /// Not a name that Calico takes.
    #[error(
        "it must be 1 to 63 lower-case letters, digits, '-' or '.', and begin and end with a letter or digit, \
         because Calico names a profile after it"
    )]
    NetworkName,
    /// Not a store that Docker takes and we know.
    #[error("it must have the form etcd://HOST:PORT[,HOST:PORT][/PREFIX] or zk://… ({0})")]
    ClusterStore(&'static str),
    /// Not an option of the store.
    #[error("each must have the form NAME=VALUE")]
    StoreOption,
    /// Not a number of CPUs.
    #[error("it must be a number of CPUs above 0 and up to 256, such as 0.25")]
    Cpus,
    /// Not an amount of memory that Docker takes.
    #[error("it must be a number of MiB from 6 (Docker's least) to 1048576, such as 256")]
    Memory,
    /// Not a number, or another one.
    #[error("it must be a number from {least} to {most}")]
    Number {
        /// The least that it may be.
        least: u64,
        /// The greatest.
        most: u64,
    },
    /// Not an IPv4 address.
    #[error("it must be an IPv4 address such as 10.0.0.1")]
    Ipv4,
    /// Not an address with a port.
    #[error("it must be an IP address with a port, such as 127.0.0.1:2379")]
    Socket,
}

/// How an endpoint is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// `http[s]://host:port`: an etcd member or a Mesos agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Plain or TLS.
    pub scheme: Scheme,
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl Endpoint {
    /// `host:port`, as a socket is connected or a gateway is told.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority())
    }
}

impl FromStr for Endpoint {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (scheme, rest) = if let Some(rest) = text.strip_prefix("http://") {
            (Scheme::Http, rest)
        } else if let Some(rest) = text.strip_prefix("https://") {
            (Scheme::Https, rest)
        } else {
            return Err(ValueError::Endpoint("it does not begin with http:// or https://"));
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = rest.rsplit_once(':').ok_or(ValueError::Endpoint("it has no port"))?;
        let port = match port.parse() {
            Ok(0) | Err(_) => return Err(ValueError::Endpoint("its port is not a number from 1 to 65535")),
            Ok(port) => port,
        };
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let valid = match bracketed {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)),
        };
        if !valid {
            return Err(ValueError::Endpoint("its host is not a name or an address"));
        }
        Ok(Self { scheme, host: bracketed.unwrap_or(host).to_owned(), port })
    }
}

/// `PATH#sha256=HEX`: a local file and the hash that it must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Where it is.
    pub path: PathBuf,
    /// Its SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

impl FromStr for Artifact {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (path, sha256) =
            text.rsplit_once("#sha256=").ok_or(ValueError::Artifact("it has no #sha256="))?;
        if path.is_empty() {
            return Err(ValueError::Artifact("its path is empty"));
        }
        if sha256.len() != 64 || !sha256.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(ValueError::Artifact("its hash is not 64 hexadecimal digits"));
        }
        Ok(Self { path: path.into(), sha256: sha256.to_ascii_lowercase() })
    }
}

/// `PATH`, or `PATH#sha256=HEX`: a local file, and what it must be where that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedFile {
    /// Where it is.
    pub path: PathBuf,
    /// The SHA-256 that it must have, in lower-case hexadecimal.
    pub sha256: Option<String>,
}

impl fmt::Display for PinnedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())
    }
}

impl FromStr for PinnedFile {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if !text.contains("#sha256=") {
            return match text {
                "" => Err(ValueError::PinnedFile("it is empty")),
                path => Ok(Self { path: path.into(), sha256: None }),
            };
        }
        match text.parse::<Artifact>() {
            Ok(Artifact { path, sha256 }) => Ok(Self { path, sha256: Some(sha256) }),
            Err(ValueError::Artifact(why)) => Err(ValueError::PinnedFile(why)),
            Err(other) => Err(other),
        }
    }
}

/// A DNS name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsName(String);

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DnsName {
    type Err = ValueError;

    /// Of labels of 1 to 63 characters; a dot at its end is taken away.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() || name.len() > 253 {
            return Err(ValueError::DnsName("it has 1 to 253 characters"));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for label in name.split('.') {
            let fine = (1..=63).contains(&label.len())
                && label.chars().all(|c| plain(c) || c == '-')
                && label.starts_with(plain)
                && label.ends_with(plain);
            if !fine {
                return Err(ValueError::DnsName(
                    "between dots stand 1 to 63 letters, digits, '_' or '-', and '-' is at neither end",
                ));
            }
        }
        Ok(Self(name.to_owned()))
    }
}

/// An IPv4 block, its host bits zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// The first address.
    pub address: Ipv4Addr,
    /// How many leading bits are the network's, 0 to 32.
    pub prefix: u8,
}

impl Cidr {
    /// Whether an address is of both.
    pub fn overlaps(self, other: Self) -> bool {
        let shorter = self.prefix.min(other.prefix);
        let mask = u32::MAX.checked_shl(32 - u32::from(shorter)).unwrap_or(0);
        (u32::from(self.address) ^ u32::from(other.address)) & mask == 0
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (address, prefix) = text.split_once('/').ok_or(ValueError::Cidr("it has no /"))?;
        let address: Ipv4Addr = address.parse().map_err(|_| ValueError::Cidr("its address is not one"))?;
        let prefix: u8 = match prefix.parse() {
            Ok(prefix) if prefix <= 32 => prefix,
            _ => return Err(ValueError::Cidr("its prefix length is not a number from 0 to 32")),
        };
        let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        if u32::from(address) & host_bits != 0 {
            return Err(ValueError::Cidr("its address has bits set beyond the prefix"));
        }
        Ok(Self { address, prefix })
    }
}

/// A network's name: of the CNI network, the pool and the profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkName(String);

impl NetworkName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NetworkName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let labels_are_names =
            text.split('.').all(|label| label.starts_with(plain) && label.ends_with(plain));
        let valid =
            text.len() <= 63 && labels_are_names && text.chars().all(|c| plain(c) || "-.".contains(c));
        if valid { Ok(Self(text.to_owned())) } else { Err(ValueError::NetworkName) }
    }
}

/// A share of CPU time, in CPUs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cpus(f64);

impl Cpus {
    /// In Docker's CPU shares: 1024 a CPU, and at least the kernel's minimum of 2.
    pub fn shares(self) -> i64 {
        #[expect(clippy::cast_possible_truncation, reason = "at most 256 CPUs")]
        let shares = (self.0 * 1024.0).round() as i64;
        shares.max(2)
    }
}

impl FromStr for Cpus {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.parse() {
            Ok(cpus) if cpus > 0.0 && cpus <= 256.0 => Ok(Self(cpus)),
            _ => Err(ValueError::Cpus),
        }
    }
}

/// An amount of memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    mib: f64,
}

impl Memory {
    /// In bytes, as Docker takes it.
    pub fn bytes(self) -> i64 {
        #[expect(clippy::cast_possible_truncation, reason = "at most 1 TiB")]
        let bytes = (self.mib * 1_048_576.0).round() as i64;
        bytes
    }
}

impl FromStr for Memory {
    type Err = ValueError;

    /// In MiB; Mesos' own amounts may have a fraction.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.parse() {
            Ok(mib) if (6.0..=1_048_576.0).contains(&mib) => Ok(Self { mib }),
            _ => Err(ValueError::Memory),
        }
    }
}

/// How packets travel between hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Encapsulation {
    /// VXLAN.
    Vxlan,
    /// IP in IP.
    Ipip,
    /// As they are.
    None,
}

impl Encapsulation {
    /// The option's value that stands for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::Ipip => "ipip",
            Self::None => "none",
        }
    }
}

/// How the host reaches etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EtcdProxy {
    /// `etcd gateway`: TCP passed through.
    Gateway,
    /// `etcd grpc-proxy`: v3 only.
    GrpcProxy,
    /// `etcd --proxy on`: v2 only.
    V2Proxy,
    /// No proxy: clients use the endpoints.
    Direct,
}

impl EtcdProxy {
    /// The option's value that stands for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::GrpcProxy => "grpc-proxy",
            Self::V2Proxy => "v2-proxy",
            Self::Direct => "direct",
        }
    }
}

/// What Calico's CNI plugins log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CniLogLevel {
    /// Everything.
    Debug,
    /// The usual.
    Info,
    /// What is not as expected.
    Warning,
    /// What failed.
    Error,
}

impl CniLogLevel {
    /// As the plugins' configuration has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Which line of Calico's versions runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NodeProfile {
    /// calico/node v3, etcd's v3 API.
    #[value(name = "v3")]
    V3,
    /// calico/node v2.6, etcd's v2 API.
    #[value(name = "v2.6")]
    V26,
}

impl NodeProfile {
    /// The option's value that stands for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::V3 => "v3",
            Self::V26 => "v2.6",
        }
    }
}

/// calico/node's `CALICO_NETWORKING_BACKEND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// BGP by BIRD, which IP in IP and unencapsulated networks need.
    Bird,
    /// VXLAN without BGP.
    Vxlan,
    /// Policy only: no networking at all.
    None,
}

impl Backend {
    /// The backend that carries `encapsulation`.
    pub fn for_encapsulation(encapsulation: Encapsulation) -> Self {
        match encapsulation {
            Encapsulation::Vxlan => Self::Vxlan,
            Encapsulation::Ipip | Encapsulation::None => Self::Bird,
        }
    }

    /// The value of the environment variable.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bird => "bird",
            Self::Vxlan => "vxlan",
            Self::None => "none",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_keep_what_they_were() {
        for text in ["http://10.0.0.1:2379", "https://etcd-1.example:2379", "http://[fd00::1]:2379"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert_eq!("http://h:1/".parse::<Endpoint>().unwrap().authority(), "h:1");
    }

    #[test]
    fn wrong_endpoints_say_why() {
        for (text, why) in [
            ("10.0.0.1:2379", "begin"),
            ("http://10.0.0.1", "no port"),
            ("http://10.0.0.1:0", "port"),
            ("http://:2379", "host"),
            ("http://a/b:2379", "host"),
            ("http://fd00::1:2379", "host"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn an_artifact_needs_a_whole_hash() {
        let hash = "ab".repeat(32);
        let artifact: Artifact = format!("./a#b#sha256={}", hash.to_uppercase()).parse().unwrap();
        assert_eq!(artifact, Artifact { path: "./a#b".into(), sha256: hash });
        for text in ["./a", "./a#sha256=", "./a#sha256=abcd", &format!("#sha256={}", "0".repeat(64))] {
            assert!(text.parse::<Artifact>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_may_say_what_it_must_be() {
        let hash = "ab".repeat(32);
        let file: PinnedFile = format!("/a/b#sha256={hash}").parse().unwrap();
        assert_eq!(file, PinnedFile { path: "/a/b".into(), sha256: Some(hash) });
        assert_eq!("key".parse(), Ok(PinnedFile { path: "key".into(), sha256: None }));
        for text in ["", "/a#sha256=", "/a#sha256=ab", &format!("#sha256={}", "0".repeat(64))] {
            assert!(matches!(text.parse::<PinnedFile>(), Err(ValueError::PinnedFile(_))), "{text}");
        }
    }

    #[test]
    fn dns_names_are_labels_between_dots() {
        for (text, name) in [("etcd.mesos", "etcd.mesos"), ("a-1._tcp.b.", "a-1._tcp.b"), ("x", "x")] {
            assert_eq!(text.parse::<DnsName>().unwrap().to_string(), name);
        }
        let long = format!("{}.{}", "a".repeat(64), "b");
        for text in ["", ".", "a..b", "-a", "a-.b", "a b", "etcd:2379", "http://a", &long, &"a.".repeat(130)]
        {
            assert!(text.parse::<DnsName>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_cidr_has_no_host_bits() {
        for text in ["192.168.0.0/16", "0.0.0.0/0", "10.1.2.3/32"] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
        for text in ["192.168.0.0", "192.168.0.1/16", "192.168.0.0/33", "fd00::/64", "10.0.0.0/-1"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }

    #[test]
    fn blocks_overlap_when_one_holds_the_other() {
        let overlap = |a: &str, b: &str| {
            let (a, b): (Cidr, Cidr) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(a.overlaps(b), b.overlaps(a));
            a.overlaps(b)
        };
        assert!(overlap("10.0.0.0/8", "10.1.2.0/24"));
        assert!(overlap("0.0.0.0/0", "10.1.2.3/32"));
        assert!(overlap("10.1.2.3/32", "10.1.2.3/32"));
        assert!(!overlap("10.0.0.0/9", "10.128.0.0/9"));
        assert!(!overlap("10.1.2.2/32", "10.1.2.3/32"));
    }

    #[test]
    fn network_names_are_those_of_calico() {
        for text in ["calico", "net-1", "a.b"] {
            assert!(text.parse::<NetworkName>().is_ok(), "{text}");
        }
        for text in ["", "Calico", "-a", "a-", "a..b", "a/b", "a_b", &"a".repeat(64)] {
            assert!(text.parse::<NetworkName>().is_err(), "{text}");
        }
    }

    #[test]
    fn memory_is_in_mib_with_a_fraction() {
        assert_eq!("512.5".parse::<Memory>().unwrap().bytes(), 537_395_200);
        assert_eq!("6".parse::<Memory>().unwrap().bytes(), 6 << 20);
        for text in ["5.9", "-6", "NaN", "256m", "1e9"] {
            assert!(text.parse::<Memory>().is_err(), "{text}");
        }
    }

    #[test]
    fn cpus_become_shares() {
        assert_eq!("0.25".parse::<Cpus>().unwrap().shares(), 256);
        assert_eq!("0.0001".parse::<Cpus>().unwrap().shares(), 2);
        for text in ["0", "-1", "NaN", "inf", "x"] {
            assert!(text.parse::<Cpus>().is_err(), "{text}");
        }
    }
}
