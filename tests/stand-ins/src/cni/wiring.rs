//! The container's interface and its routes, by the host's `ip` and `nsenter`.
//!
//! As with Calico: a veth pair; in the container the address as /32 and a default route over 169.254.1.1, which
//! the host answers for; on the host a route to the /32. The container also gets a fixed neighbour entry for
//! 169.254.1.1, because proxy ARP answers only on hosts that have a route to that address.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::{Action, Call, CniError, Code};
use crate::cidr::Cidr;

/// The next hop of every container.
pub const GATEWAY: &str = "169.254.1.1";
/// The hosts' side of every pair has this address, as with Calico.
pub const HOST_MAC: &str = "ee:ee:ee:ee:ee:ee";
/// Default MTU in bytes.
pub const MTU: u32 = 1500;
/// How long an `ip` may take.
const IP_LIMIT: Duration = Duration::from_secs(5);

/// One container's connection.
pub struct Wiring {
    /// The host's side of the pair.
    pub host_interface: String,
    interface: String,
    netns: Option<PathBuf>,
}

impl Wiring {
    /// Names the interfaces and checks that the namespace exists, but for DEL.
    pub fn new(call: &Call) -> Result<Self, CniError> {
        let invocation = &call.invocation;
        if let Some(path) = &invocation.netns
            && invocation.action != Action::Del
            && let Err(error) = std::fs::File::open(path)
        {
            let details = format!("{}: {error}", path.display());
            return Err(CniError::new(Code::UnknownContainer, "cannot open CNI_NETNS", &details));
        }
        Ok(Self {
            host_interface: host_interface(&invocation.container_id),
            interface: invocation.interface.clone(),
            netns: invocation.netns.clone(),
        })
    }

    /// Refuses a container that has the interface already.
    pub async fn require_unused(&self) -> Result<(), CniError> {
        let inside = self.inside(&["link", "show", "dev", &self.interface]).await;
        if inside.is_ok() {
            let details = format!("{} exists in the container already", self.interface);
            return Err(CniError::new(Code::Io, "the container is connected already", &details));
        }
        Ok(())
    }

    /// Makes the pair and both sides' routes.
    pub async fn create(&self, address: Cidr, mtu: Option<u32>) -> Result<(), CniError> {
        let (host, interface) = (&self.host_interface, &self.interface);
        let netns = self.netns()?;
        let mtu = mtu.unwrap_or(MTU);
        ip_batch(
            None,
            &[format!(
                "link add {host} address {HOST_MAC} mtu {mtu} type veth peer name {interface} mtu {mtu} netns {netns}"
            )],
        )
        .await?;
        for (name, value) in [("proxy_arp", "1"), ("forwarding", "1"), ("rp_filter", "1")] {
            let path = format!("/proc/sys/net/ipv4/conf/{host}/{name}");
            std::fs::write(&path, value).map_err(|error| {
                CniError::new(Code::Io, "cannot set a sysctl", &format!("{path} = {value}: {error}"))
            })?;
        }
        let inside = [
            format!("link set {interface} up"),
            format!("address add {address} dev {interface}"),
            format!("route add {GATEWAY} dev {interface} scope link"),
            format!("route add default via {GATEWAY} dev {interface}"),
            format!("neighbour replace {GATEWAY} lladdr {HOST_MAC} dev {interface} nud permanent"),
        ];
        ip_batch(Some(netns), &inside).await?;
        // Replaced: a container that vanished without DEL may have left a route to its address.
        let outside =
            [format!("link set {host} up"), format!("route replace {address} dev {host} scope link")];
        ip_batch(None, &outside).await
    }

    /// Whether all that [`Self::create`] made is there.
    pub async fn check(&self, address: Cidr) -> Result<(), CniError> {
        let wrong = |details: String| {
            CniError::new(Code::Io, "the container's network is not as it was made", &details)
        };
        let inside = self.inside(&["-o", "-4", "address", "show", "dev", &self.interface]).await?;
        if !inside.contains(&format!(" {address} ")) {
            return Err(wrong(format!("{} has not the address {address}", self.interface)));
        }
        let default = self.inside(&["-4", "route", "show", "default"]).await?;
        if !default.contains(GATEWAY) {
            return Err(wrong(format!("the default route is not via {GATEWAY}")));
        }
        let route = ip(&["-4", "route", "show", &address.to_string()]).await?;
        if !route.contains(&self.host_interface) {
            return Err(wrong(format!("the host has no route to {address} over {}", self.host_interface)));
        }
        Ok(())
    }

    /// Deletes the pair, if it is there; the routes go with it.
    pub async fn remove(&self) -> Result<(), CniError> {
        match ip(&["link", "delete", "dev", &self.host_interface]).await {
            // It goes with the container's namespace too.
            Err(error) if !error.details.contains("Cannot find device") => Err(error),
            _ => Ok(()),
        }
    }

    fn netns(&self) -> Result<&str, CniError> {
        self.netns.as_ref().and_then(|path| path.to_str()).ok_or_else(|| {
            CniError::new(Code::InvalidEnvironment, "CNI_NETNS cannot be used", "it is missing or not UTF-8")
        })
    }

    async fn inside(&self, arguments: &[&str]) -> Result<String, CniError> {
        let net = format!("--net={}", self.netns()?);
        let mut all = vec![net.as_str(), "--", "ip"];
        all.extend_from_slice(arguments);
        run("nsenter", &all, None).await
    }
}

/// `cali` and 11 digits, which is all that an interface's name has room for.
fn host_interface(container: &str) -> String {
    let digest = Sha256::digest(container.as_bytes());
    let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("cali{:011x}", number >> 20)
}

async fn ip(arguments: &[&str]) -> Result<String, CniError> {
    run("ip", arguments, None).await
}

async fn ip_batch(netns: Option<&str>, lines: &[String]) -> Result<(), CniError> {
    let input = lines.join("\n") + "\n";
    match netns {
        None => run("ip", &["-batch", "-"], Some(&input)).await?,
        Some(path) => {
            run("nsenter", &[&format!("--net={path}"), "--", "ip", "-batch", "-"], Some(&input)).await?
        }
    };
    Ok(())
}

async fn run(program: &str, arguments: &[&str], input: Option<&str>) -> Result<String, CniError> {
    let failed = |details: String| {
        let msg = format!("{program} {} failed", arguments.join(" "));
        let details = input.map_or(details.clone(), |input| format!("{details}; its input was {input:?}"));
        CniError::new(Code::Io, &msg, &details)
    };
    let run = async {
        let mut child = Command::new(program)
            .args(arguments)
            // An agent may call plugins with no PATH, or one without the system's programs.
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.unwrap_or_default().as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = match timeout(IP_LIMIT, run).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed(format!("not done within {IP_LIMIT:?}"))),
    };
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(failed(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_interfaces_fit_and_differ() {
        let one = host_interface("0a1b2c3d-0000-0000-0000-000000000001");
        assert_eq!(one.len(), 15);
        assert!(one.starts_with("cali"));
        assert_ne!(one, host_interface("0a1b2c3d-0000-0000-0000-000000000002"));
    }

    #[tokio::test]
    async fn a_failing_program_says_what_it_was_given() {
        let error = ip_batch(None, &["link set no-such-link up".to_owned()]).await.unwrap_err();
        assert!(error.details.contains("no-such-link"), "{error}");
    }
}
