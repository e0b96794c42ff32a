//! This host's own address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use tokio::process::Command;

use super::{Host, process};
use crate::exit::{Exit, Failure, Result};
use crate::values::Endpoint;

/// The port on which a Mesos agent listens by default.
const AGENT_PORT: u16 = 5051;

/// Where DC/OS says which address a host has.
const DETECT_IP: &str = "/opt/mesosphere/bin/detect_ip";
/// How long that may take.
const DETECT_IP_LIMIT: Duration = Duration::from_secs(10);

/// This host's IPv4 address: the one given if the host has it, else the one from which the first of `towards`
/// is reached that is not on this host's loopback.
///
/// Never an empty or made-up address: without one it is an error.
fn node_ip<'a>(given: Option<Ipv4Addr>, towards: impl IntoIterator<Item = &'a Endpoint>) -> Result<Ipv4Addr> {
    if let Some(ip) = given {
        return if UdpSocket::bind((ip, 0)).is_ok() {
            Ok(ip)
        } else {
            Err(Failure::unsuitable(format!("--node-ip {ip} is not an address of this host")))
        };
    }
    let mut tried = Vec::new();
    for endpoint in towards {
        match source_towards(endpoint) {
            Ok(ip) if usable(ip) => return Ok(ip),
            Ok(ip) => tried.push(format!("{endpoint} is reached from {ip}")),
            Err(error) => tried.push(format!("{endpoint}: {error}")),
        }
    }
    // Besides --etcd-discovery-srv, endpoints must not be given.
    let (tried, instead) = if tried.is_empty() {
        ("neither --etcd-endpoints nor anything else to reach is given".to_owned(), "")
    } else {
        (tried.join("; "), ", or an --etcd-endpoints that is reached over the network")
    };
    Err(Failure::new(
        Exit::Unavailable,
        format!("cannot tell this host's address ({tried}): give it as --node-ip{instead}"),
    ))
}

/// This host's IPv4 address: the one given if the host has it, else what DC/OS' `detect_ip` says where that is there, else as
/// [`node_ip`] finds it.
///
/// A `detect_ip` that fails is an error: DC/OS itself would use no other address.
pub async fn own_ip<'a>(
    host: &Host,
    given: Option<Ipv4Addr>,
    towards: impl IntoIterator<Item = &'a Endpoint>,
) -> Result<Ipv4Addr> {
    if given.is_some() || !host.has(DETECT_IP) {
        return node_ip(given, towards);
    }
    let failed = |why: String| {
        Failure::new(
            Exit::Unavailable,
            format!("cannot tell this host's address: {DETECT_IP} {why}; give it as --node-ip"),
        )
    };
    let ran = process::run(&mut Command::new(host.place(DETECT_IP)), b"", DETECT_IP_LIMIT).await;
    let said = match ran {
        Ok(Some(ran)) if ran.success => String::from_utf8_lossy(&ran.stdout).trim().to_owned(),
        Ok(Some(ran)) => return Err(failed(format!("failed: {}", ran.complaint))),
        Ok(None) => return Err(failed(format!("did not end within {} s", DETECT_IP_LIMIT.as_secs()))),
        Err(error) => return Err(failed(format!("cannot be run: {error}"))),
    };
    match said.parse::<Ipv4Addr>() {
        Ok(ip) if usable(ip) && UdpSocket::bind((ip, 0)).is_ok() => Ok(ip),
        Ok(ip) => Err(failed(format!("says {ip}, which is not an address of this host that others can use"))),
        Err(_) => Err(failed(format!("says {said:?}, which is not an IPv4 address"))),
    }
}

/// The agent's URL: the one given, else the default port on this host's address ([`own_ip`]: DC/OS has its agents listen at
/// what `detect_ip` says).
pub async fn agent_url(
    host: &Host,
    given: Option<&Endpoint>,
    node_ip: Option<Ipv4Addr>,
    etcd: &[Endpoint],
) -> Result<Endpoint> {
    if let Some(endpoint) = given {
        return Ok(endpoint.clone());
    }
    let ip = own_ip(host, node_ip, etcd).await?;
    Ok(Endpoint { scheme: crate::values::Scheme::Http, host: ip.to_string(), port: AGENT_PORT })
}

/// An address that other hosts can have as ours.
fn usable(ip: Ipv4Addr) -> bool {
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_link_local() || ip.is_multicast())
}

/// Connects a UDP socket, which sends nothing, and asks which source address the kernel chose.
fn source_towards(endpoint: &Endpoint) -> std::io::Result<Ipv4Addr> {
    let target = (endpoint.host.as_str(), endpoint.port)
        .to_socket_addrs()?
        .find(SocketAddr::is_ipv4)
        .ok_or_else(|| std::io::Error::other("it has no IPv4 address"))?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(target)?;
    match socket.local_addr()?.ip() {
        IpAddr::V4(ip) => Ok(ip),
        IpAddr::V6(ip) => Err(std::io::Error::other(format!("{ip} is not an IPv4 address"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_no_address_of_a_node() {
        let loopback: Endpoint = "http://127.0.0.1:2379".parse().unwrap();
        let failure = node_ip(None, [&loopback]).unwrap_err();
        assert_eq!(failure.exit(), Exit::Unavailable);
        assert!(failure.to_string().contains("127.0.0.1"), "{failure}");
        assert!(failure.to_string().contains("or an --etcd-endpoints"), "{failure}");
        // With --etcd-discovery-srv they would be refused.
        let failure = node_ip(None, []).unwrap_err().to_string();
        assert!(failure.ends_with("is given): give it as --node-ip"), "{failure}");
    }

    #[test]
    fn only_addresses_that_others_can_use() {
        for (ip, is) in [("10.0.0.1", true), ("127.1.2.3", false), ("0.0.0.0", false), ("169.254.1.1", false)]
        {
            assert_eq!(usable(ip.parse().unwrap()), is, "{ip}");
        }
    }

    /// An address of this machine that others could use.
    fn an_address() -> Option<Ipv4Addr> {
        let outside: Endpoint = "http://192.0.2.1:9".parse().unwrap();
        node_ip(None, [&outside]).ok()
    }

    /// Has DC/OS' script do this.
    fn detect_ip(host: &Host, text: &str) {
        use std::os::unix::fs::PermissionsExt;

        let script = host.place(DETECT_IP);
        std::fs::create_dir_all(script.parent().unwrap()).unwrap();
        std::fs::write(&script, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[tokio::test]
    async fn dcos_says_which_address_a_host_has() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::below(root.path());
        let loopback: Endpoint = "http://127.0.0.1:2379".parse().unwrap();
        let towards = [&loopback];
        assert!(own_ip(&host, None, towards).await.unwrap_err().to_string().contains("is reached from"));
        for (text, words) in [
            ("exit 1", "failed: exit status: 1"),
            ("echo no route >&2; exit 3", "failed: no route"),
            ("echo", r#"says "", which is not an IPv4 address"#),
            ("echo fd00::1", "which is not an IPv4 address"),
            ("echo 192.0.2.1", "says 192.0.2.1, which is not an address of this host"),
            ("echo 127.0.0.1", "says 127.0.0.1, which is not an address"),
        ] {
            detect_ip(&host, text);
            let failure = own_ip(&host, None, towards).await.unwrap_err();
            assert_eq!(failure.exit(), Exit::Unavailable, "{text}");
            let said = failure.to_string();
            assert!(said.contains(words) && said.contains("--node-ip"), "{text}: {said}");
        }
        // An option goes before it.
        assert_eq!(own_ip(&host, Some(Ipv4Addr::LOCALHOST), towards).await.unwrap(), Ipv4Addr::LOCALHOST);
        if let Some(ip) = an_address() {
            detect_ip(&host, &format!("echo {ip}"));
            assert_eq!(own_ip(&host, None, towards).await.unwrap(), ip);
        }
    }

    #[test]
    fn a_given_address_must_be_this_host_s() {
        assert_eq!(node_ip(Some(Ipv4Addr::LOCALHOST), []).unwrap(), Ipv4Addr::LOCALHOST);
        assert!(
            node_ip(Some("192.0.2.1".parse().unwrap()), []).unwrap_err().to_string().contains("192.0.2.1")
        );
    }

    #[tokio::test]
    async fn the_agent_s_default_port_is_on_the_host_s_address() {
        let plain = Host::default();
        let url = agent_url(&plain, None, Some(Ipv4Addr::LOCALHOST), &[]).await.unwrap();
        assert_eq!(url.to_string(), "http://127.0.0.1:5051");
        let Some(ip) = an_address() else { return };
        let root = tempfile::tempdir().unwrap();
        let dcos = Host::below(root.path());
        detect_ip(&dcos, &format!("echo {ip}"));
        let etcd = ["http://127.0.0.1:2379".parse().unwrap()];
        assert_eq!(
            agent_url(&dcos, None, None, &etcd).await.unwrap().to_string(),
            format!("http://{ip}:5051")
        );
        // It is not asked where an agent is given.
        detect_ip(&dcos, "exit 1");
        let given: Endpoint = "http://10.0.0.1:5052".parse().unwrap();
        assert_eq!(agent_url(&dcos, Some(&given), None, &etcd).await.unwrap(), given);
        let failure = agent_url(&dcos, None, None, &etcd).await.unwrap_err();
        assert!(failure.to_string().contains("detect_ip failed"), "{failure}");
    }
}
