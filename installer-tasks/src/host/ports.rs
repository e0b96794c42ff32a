//! Who listens on a TCP address, as far as /proc shows it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use super::Host;

/// A listening socket as a line of /proc/net/tcp or tcp6 has it.
#[derive(Debug, PartialEq, Eq)]
struct Listener {
    address: SocketAddr,
    inode: u64,
}

/// Whether `address` can be listened on.
pub fn try_listen(address: SocketAddr) -> std::io::Result<()> {
    TcpListener::bind(address).map(drop)
}

/// What holds `address`, for a human: `etcd (pid 12)`, or less when /proc shows less.
pub fn holder(host: &Host, address: SocketAddr) -> Option<String> {
    let listeners = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| fs::read_to_string(host.place(table)).ok())
        .flat_map(|table| listeners(&table));
    let held = listeners.into_iter().find(|listener| covers(listener.address, address))?;
    Some(process_of(host, held.inode).unwrap_or_else(|| {
        format!(
            "a process that cannot be seen from here, listening on {} (socket inode {})",
            held.address, held.inode
        )
    }))
}

/// Whether a socket that listens on `held` is in the way of `wanted`.
fn covers(held: SocketAddr, wanted: SocketAddr) -> bool {
    held.port() == wanted.port()
        && (held.ip() == wanted.ip() || held.ip().is_unspecified() || wanted.ip().is_unspecified())
}

/// The listening sockets of a /proc/net/tcp or tcp6.
fn listeners(table: &str) -> Vec<Listener> {
    const LISTEN: &str = "0A";
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let (address, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
            (*state == LISTEN)
                .then(|| Some(Listener { address: socket_address(address)?, inode: inode.parse().ok()? }))?
        })
        .collect()
}

/// `0100007F:0947`: 32-bit words in the machine's byte order, the port in hexadecimal.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let words = (0..address.len() / 8)
        .map(|word| u32::from_str_radix(address.get(word * 8..word * 8 + 8)?, 16).ok().map(u32::to_ne_bytes))
        .collect::<Option<Vec<[u8; 4]>>>()?;
    let ip = match *words {
        [v4] => IpAddr::V4(Ipv4Addr::from(v4)),
        [_, _, _, _] => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// The process that has the socket open.
fn process_of(host: &Host, inode: u64) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    for process in fs::read_dir(host.place("/proc")).ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        let Ok(open) = fs::read_dir(process.path().join("fd")) else { continue };
        let has_it = open
            .flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str()));
        if has_it {
            let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", command.trim()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:094B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:094B 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0
";
    const TCP6: &str =
        "  sl  local_address                         remote_address                        st tx_queue
   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 99 1 0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn listening_sockets_are_read_and_others_are_not() {
        let address = "127.0.0.1:2379".parse().unwrap();
        assert_eq!(listeners(TCP), [Listener { address, inode: 4711 }]);
        assert_eq!(listeners(TCP6), [Listener { address: "[::]:22".parse().unwrap(), inode: 99 }]);
    }

    #[test]
    fn an_unspecified_address_is_in_the_way_of_all() {
        let covers = |held: &str, wanted: &str| covers(held.parse().unwrap(), wanted.parse().unwrap());
        assert!(covers("0.0.0.0:1", "127.0.0.1:1"));
        assert!(covers("127.0.0.1:1", "0.0.0.0:1"));
        assert!(!covers("127.0.0.1:1", "127.0.0.2:1"));
        assert!(!covers("127.0.0.1:1", "127.0.0.1:2"));
    }

    #[test]
    fn our_own_listener_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(try_listen(address).is_err());
        let holder = holder(&Host::default(), address).unwrap();
        assert!(holder.contains(&format!("(pid {})", std::process::id())), "{holder}");
    }
}
