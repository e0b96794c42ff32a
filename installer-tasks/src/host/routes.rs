//! The host's IPv4 routes, as /proc shows them.

use std::fs;
use std::io;
use std::net::Ipv4Addr;

use super::Host;
use crate::values::Cidr;

/// Where the kernel shows its main routing table.
const TABLE: &str = "/proc/net/route";
/// `RTF_GATEWAY` (`route.h`).
const GATEWAY: u32 = 0x2;

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The interface; `*` for one that leads nowhere.
    pub interface: String,
    /// Where it leads.
    pub network: Cidr,
    /// Whether it goes through another host.
    pub has_gateway: bool,
}

/// All routes of the main table.
pub fn routes(host: &Host) -> io::Result<Vec<Route>> {
    Ok(read(&fs::read_to_string(host.place(TABLE))?))
}

/// Lines that are something else are left out.
fn read(table: &str) -> Vec<Route> {
    // Words in the machine's byte order of what is in the network's.
    let word = |text: &str| Some(u32::from_be_bytes(u32::from_str_radix(text, 16).ok()?.to_ne_bytes()));
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (address, mask) = (word(fields.get(1)?)?, word(fields.get(7)?)?);
        let flags = u32::from_str_radix(fields.get(3)?, 16).ok()?;
        let prefix = u8::try_from(mask.leading_ones()).ok()?;
        Some(Route {
            interface: (*fields.first()?).to_owned(),
            network: Cidr { address: Ipv4Addr::from(address & mask), prefix },
            has_gateway: flags & GATEWAY != 0,
        })
    };
    table.lines().skip(1).filter_map(route).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TABLE: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
*\t4000A8C0\t00000000\t0201\t0\t0\t0\tC0FFFFFF\t0\t0\t0
tunl0\t8000A8C0\t0B00000A\t0003\t0\t0\t0\tC0FFFFFF\t0\t0\t0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn routes_are_read() {
        let shown: Vec<String> = read(TABLE)
            .iter()
            .map(|it| format!("{} {} {}", it.interface, it.network, if it.has_gateway { "via" } else { "" }))
            .collect();
        assert_eq!(
            shown,
            [
                "eth0 0.0.0.0/0 via",
                "eth0 10.0.0.0/24 ",
                "docker0 172.17.0.0/16 ",
                "* 192.168.0.64/26 ",
                "tunl0 192.168.0.128/26 via",
            ]
        );
    }

    proptest! {
        #[test]
        fn no_table_is_a_crash(lines in proptest::collection::vec("[ -~\t]{0,60}", 0..5)) {
            let _ = read(&lines.join("\n"));
        }
    }
}
