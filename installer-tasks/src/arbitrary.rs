//! Values of options, for property tests: any that the options take.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use proptest::prelude::*;

use crate::options::{EtcdTls, EtcdTlsFile};
use crate::steps::StepName;
use crate::steps::etcd_tls::OnHost;
use crate::values::{Cidr, Cpus, Encapsulation, Memory, NetworkName, NodeProfile, PinnedFile};

/// What is in a key; in nothing that is made of options.
pub const SECRET: &str = "-----BEGIN PRIVATE KEY-----";

prop_compose! {
    /// Names of networks.
    pub fn networks()(text in "[a-z0-9]([a-z0-9-]{0,60}[a-z0-9])?(\\.[a-z0-9]){0,1}") -> NetworkName {
        text.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).parse().unwrap()
    }
}

prop_compose! {
    /// Blocks of addresses that are not longer than this.
    pub fn cidrs(longest: u8)(bits: u32, prefix in 0..=longest) -> Cidr {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        Cidr { address: (bits & mask).into(), prefix }
    }
}

/// Names of hosts in Calico.
pub fn node_names() -> impl Strategy<Value = String> {
    "[a-z0-9._-]{1,63}"
}

/// Images, by tag or digest.
pub fn images() -> impl Strategy<Value = String> {
    "[a-z0-9]{1,9}(:[0-9]{2,5})?(/[a-z0-9._-]{1,9}){1,2}(:[a-zA-Z0-9._-]{1,12}|@sha256:[0-9a-f]{64})"
}

/// Paths on a host.
pub fn paths() -> impl Strategy<Value = PathBuf> {
    "(/[a-z0-9._-]{1,9}){1,3}".prop_map(PathBuf::from)
}

/// Addresses of hosts.
pub fn addresses() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from)
}

/// Amounts of memory.
pub fn memories() -> impl Strategy<Value = Memory> {
    (6_u32..=1_048_576).prop_map(|mib| mib.to_string().parse().unwrap())
}

/// Amounts of CPU time.
pub fn cpus() -> impl Strategy<Value = Cpus> {
    (1_u32..=256_000).prop_map(|milli| format!("{}.{:03}", milli / 1000, milli % 1000).parse().unwrap())
}

/// What the endpoints of an etcd are told as, with the variable.
pub fn etcds() -> impl Strategy<Value = (&'static str, String)> {
    let members = prop::collection::vec("https?://[a-z0-9.]{1,12}:[1-9][0-9]{1,3}", 1..4);
    prop_oneof![
        members.prop_map(|members| ("ETCD_ENDPOINTS", members.join(","))),
        "[a-z]{1,9}\\.[a-z]{2,5}".prop_map(|name| ("ETCD_DISCOVERY_SRV", name)),
    ]
}

/// A line of Calico's, with an encapsulation that it has.
pub fn lines() -> impl Strategy<Value = (NodeProfile, Encapsulation)> {
    use Encapsulation::{Ipip, None, Vxlan};
    use NodeProfile::{V3, V26};
    prop::sample::select(vec![(V3, Vxlan), (V3, Ipip), (V3, None), (V26, Ipip), (V26, None)])
}

/// Files of TLS with [`SECRET`] in each, as a sandbox has them or as they are on the host; they are there as long as what
/// is given with them is.
pub fn tls_files(on_host: [bool; 3], has_identity: bool) -> (tempfile::TempDir, OnHost) {
    let folder = tempfile::tempdir().unwrap();
    // From the directory that tests run in.
    let up: PathBuf = std::env::current_dir().unwrap().components().skip(1).map(|_| "..").collect();
    let file = |name: &str, on_host: bool| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("{SECRET}{name}")).unwrap();
        let path = if on_host { path } else { up.join(path.strip_prefix("/").unwrap()) };
        PinnedFile { path, sha256: None }
    };
    let identity = has_identity.then(|| (file("cert", on_host[1]), file("key", on_host[2])));
    let tls = EtcdTls { ca: file("ca", on_host[0]), identity };
    let on_host = OnHost::new(&tls, std::path::Path::new("/state"), StepName::CalicoNode).unwrap();
    (folder, on_host)
}

/// The variables that tell of files of TLS.
pub fn tls_variables() -> [&'static str; 3] {
    [EtcdTlsFile::Ca, EtcdTlsFile::Cert, EtcdTlsFile::Key].map(EtcdTlsFile::variable)
}
