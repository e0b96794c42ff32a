//! The host as the plugins see it: etcd, and the kernel's interfaces over netlink.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures::TryStreamExt;
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::environment::Settings;
use super::plugin::{Refusal, Surroundings};
use crate::cni::wiring::HOST_MAC;
use crate::datastore::Etcd;

/// How long a request waits for etcd.
const DATASTORE_LIMIT: Duration = Duration::from_secs(5);
/// `ENODEV`
const NO_SUCH_DEVICE: i32 = 19;

/// This host.
pub struct Host {
    settings: Settings,
    netlink: Handle,
}

impl Host {
    /// Opens a netlink socket; wants a Tokio runtime.
    pub fn new(settings: Settings) -> std::io::Result<Self> {
        let (connection, netlink, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self { settings, netlink })
    }

    async fn make_pair(&self, host: &str, peer: &str, address: Ipv4Addr) -> Result<(), String> {
        let mtu = self.settings.mtu;
        let peer_end = LinkUnspec::new_with_name(peer).mtu(mtu).build();
        let pair = LinkVeth::new(host, peer)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer_end)))
            .mtu(mtu)
            .address(mac(HOST_MAC))
            .up()
            .build();
        let text = |what: &str| {
            let what = format!("cannot {what} {host}");
            move |error: rtnetlink::Error| format!("{what}: {error}")
        };
        self.netlink.link().add(pair).execute().await.map_err(text("make the pair of"))?;
        // The host answers for 169.254.1.1, at once and not after a random delay.
        for (name, value) in [
            ("conf/{}/proxy_arp", "1"),
            ("conf/{}/forwarding", "1"),
            ("conf/{}/rp_filter", "1"),
            ("neigh/{}/proxy_delay", "0"),
        ] {
            let path = format!("/proc/sys/net/ipv4/{}", name.replace("{}", host));
            std::fs::write(&path, value).map_err(|error| format!("cannot set {path} to {value}: {error}"))?;
        }
        let index = self.index(host).await.map_err(text("find"))?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(address, 32)
            .output_interface(index)
            .scope(RouteScope::Link)
            .build();
        // Replaced: a container that vanished may have left a route to its address.
        self.netlink.route().add(route).replace().execute().await.map_err(text("route to"))
    }

    async fn index(&self, name: &str) -> Result<u32, rtnetlink::Error> {
        let mut answers = self.netlink.link().get().match_name(name).execute();
        let link = answers.try_next().await?;
        Ok(link.map_or(0, |link| link.header.index))
    }
}

/// `aa:bb:cc:dd:ee:ff` as bytes.
fn mac(text: &str) -> Vec<u8> {
    text.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}

impl Surroundings for Host {
    type Store = Etcd;

    fn node(&self) -> &str {
        &self.settings.node
    }

    fn unique(&self) -> Result<String, Refusal> {
        let file = "/proc/sys/kernel/random/uuid";
        let text = std::fs::read_to_string(file);
        text.map(|uuid| uuid.trim().to_owned())
            .map_err(|error| Refusal::Surroundings(format!("cannot read {file}: {error}")))
    }

    async fn store(&self) -> Result<Etcd, Refusal> {
        Ok(Etcd::connect(&self.settings.datastore, DATASTORE_LIMIT).await?)
    }

    async fn connect(&self, host: &str, peer: &str, address: Ipv4Addr) -> Result<(), Refusal> {
        if let Err(reason) = self.make_pair(host, peer, address).await {
            // What failed is what the caller must hear.
            if let Err(second) = self.disconnect(host).await {
                tracing::warn!("while taking back a failed Join: {second}");
            }
            return Err(Refusal::Surroundings(reason));
        }
        Ok(())
    }

    async fn disconnect(&self, host: &str) -> Result<(), Refusal> {
        let failed = |error| Refusal::Surroundings(format!("cannot remove {host}: {error}"));
        let index = match self.index(host).await {
            Ok(index) => index,
            // It goes with the container's namespace, too.
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code().abs() == NO_SUCH_DEVICE => {
                return Ok(());
            }
            Err(error) => return Err(failed(error)),
        };
        match self.netlink.link().del(index).execute().await {
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code().abs() == NO_SUCH_DEVICE => Ok(()),
            other => other.map_err(failed),
        }
    }
}
