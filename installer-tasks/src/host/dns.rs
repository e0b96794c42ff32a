//! SRV records, which the system's own resolver does not look for.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use simple_dns::rdata::{RData, SRV};
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::Host;

/// Which servers are asked: `resolv.conf(5)`.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Only so many are used, as by the system's resolver.
const MAX_SERVERS: usize = 3;
const PORT: u16 = 53;
/// How long one server has.
const LIMIT: Duration = Duration::from_secs(3);
/// How often each server is asked.
const ATTEMPTS: usize = 2;
/// A datagram that is larger is asked for again over TCP.
const MAX_DATAGRAM: usize = 4096;

/// Why there are no records.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// No server says anything.
    #[error("no DNS server answers for {name}: {reasons}")]
    NoAnswer {
        /// What was asked for.
        name: String,
        /// What was seen, for each server.
        reasons: String,
    },
    /// There are none.
    #[error("DNS has no SRV records of {0}")]
    NoRecords(String),
}

/// Where the SRV records of `name` lead to, as host and port, in the order in which they are to be tried.
pub async fn srv(host: &Host, name: &str) -> Result<Vec<(String, u16)>, DnsError> {
    let mut reasons = Vec::new();
    let servers = servers(&fs::read_to_string(host.place(RESOLV_CONF)).unwrap_or_default());
    for _ in 0..ATTEMPTS {
        reasons.clear();
        for server in &servers {
            match ask(*server, name).await {
                Ok(found) if found.is_empty() => return Err(DnsError::NoRecords(name.to_owned())),
                Ok(found) => return Ok(found),
                Err(error) => reasons.push(format!("{}: {error}", server.ip())),
            }
        }
    }
    Err(DnsError::NoAnswer { name: name.to_owned(), reasons: reasons.join("; ") })
}

/// The servers of a resolv.conf; without any, this host's own.
fn servers(resolv_conf: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let ip = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        Some(SocketAddr::new(ip.parse().ok()?, PORT))
    };
    let found: Vec<SocketAddr> = resolv_conf.lines().filter_map(server).take(MAX_SERVERS).collect();
    if found.is_empty() { vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT)] } else { found }
}

async fn ask(server: SocketAddr, name: &str) -> io::Result<Vec<(String, u16)>> {
    // A number that others cannot guess.
    let id = RandomState::new().build_hasher().finish().to_le_bytes();
    let id = u16::from_le_bytes([id[0], id[1]]);
    let query = query(id, name)?;
    let talk = async {
        let answer = over_udp(server, id, &query).await?;
        match read(id, &answer)? {
            Some(found) => Ok(found),
            None => read(id, &over_tcp(server, &query).await?)?
                .ok_or_else(|| io::Error::other("its answer is cut off")),
        }
    };
    timeout(LIMIT, talk).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn over_udp(server: SocketAddr, id: u16, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut answer = vec![0; MAX_DATAGRAM];
    loop {
        let length = socket.recv(&mut answer).await?;
        // Another one's may come late.
        if answer[..length].starts_with(&id.to_be_bytes()) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

/// Each message has its length before it (RFC 1035, 4.2.2).
async fn over_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], query].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn query(id: u16, name: &str) -> io::Result<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).map_err(io::Error::other)?;
    packet.questions.push(Question::new(name, TYPE::SRV.into(), CLASS::IN.into(), false));
    packet.build_bytes_vec().map_err(io::Error::other)
}

/// The records of an answer; `None` when it was cut off.
fn read(id: u16, answer: &[u8]) -> io::Result<Option<Vec<(String, u16)>>> {
    let packet = Packet::parse(answer).map_err(io::Error::other)?;
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) {
        return Err(io::Error::other("it answers something else"));
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Ok(None);
    }
    if !matches!(packet.rcode(), RCODE::NoError | RCODE::NameError) {
        return Err(io::Error::other(format!("it answers {:?}", packet.rcode())));
    }
    let srv = |data: &RData<'_>| match data {
        // A root as the target says that there is no such service (RFC 2782).
        RData::SRV(SRV { priority, weight, port, target }) if !target.get_labels().is_empty() => {
            Some((*priority, u16::MAX - weight, target.to_string(), *port))
        }
        _ => None,
    };
    let mut found: Vec<_> = packet.answers.iter().filter_map(|record| srv(&record.rdata)).collect();
    found.sort();
    Ok(Some(found.into_iter().map(|(_, _, target, port)| (target, port)).collect()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use simple_dns::{OPCODE, ResourceRecord};

    use super::*;

    /// An answer to `query` with these records: priority, weight, port and target.
    fn answer(query: &[u8], records: &[(u16, u16, u16, &'static str)]) -> Packet<'static> {
        let query = Packet::parse(query).unwrap();
        assert_eq!((query.questions.len(), query.opcode()), (1, OPCODE::StandardQuery));
        let mut answer = Packet::new_reply(query.id());
        for &(priority, weight, port, target) in records {
            let data = RData::SRV(SRV { priority, weight, port, target: Name::new(target).unwrap() });
            let name = query.questions[0].qname.clone().into_owned();
            answer.answers.push(ResourceRecord::new(name, CLASS::IN, 1, data));
        }
        answer
    }

    #[test]
    fn servers_are_those_of_resolv_conf() {
        let text =
            "# nameserver 10.0.0.9\nsearch a\nnameserver 10.0.0.1\nnameserver\tfd00::1\nnameserver x\n";
        let found: Vec<String> = servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.1:53", "[fd00::1]:53"]);
        assert_eq!(servers("").len(), 1);
        assert_eq!(servers(&"nameserver 10.0.0.1\n".repeat(5)).len(), MAX_SERVERS);
    }

    #[test]
    fn records_are_read_in_their_order() {
        let query = query(7, "_etcd-server._tcp.etcd.test").unwrap();
        let mut packet = answer(&query, &[(10, 0, 3, "c"), (0, 1, 2, "b.x"), (0, 5, 1, "a.x")]);
        let bytes = packet.build_bytes_vec_compressed().unwrap();
        let expected = [("a.x", 1), ("b.x", 2), ("c", 3)].map(|(name, port)| (name.to_owned(), port));
        assert_eq!(read(7, &bytes).unwrap(), Some(expected.into()));
        assert!(read(8, &bytes).is_err(), "another question's");
        assert!(read(7, &query).is_err(), "a question");
        packet.set_flags(PacketFlag::TRUNCATION);
        assert_eq!(read(7, &packet.build_bytes_vec().unwrap()).unwrap(), None);

        let mut none = answer(&query, &[]);
        *none.rcode_mut() = RCODE::NameError;
        assert_eq!(read(7, &none.build_bytes_vec().unwrap()).unwrap(), Some(Vec::new()));
        *none.rcode_mut() = RCODE::ServerFailure;
        assert!(read(7, &none.build_bytes_vec().unwrap()).unwrap_err().to_string().contains("ServerFailure"));
    }

    #[tokio::test]
    async fn what_is_cut_off_is_asked_for_over_tcp() {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = udp.local_addr().unwrap();
        let tcp = tokio::net::TcpListener::bind(server).await.unwrap();
        tokio::spawn(async move {
            let mut query = [0; 512];
            let (length, from) = udp.recv_from(&mut query).await.unwrap();
            let mut packet = answer(&query[..length], &[(0, 0, 1, "lost")]);
            packet.set_flags(PacketFlag::TRUNCATION);
            udp.send_to(b"xx of another", from).await.unwrap();
            udp.send_to(&packet.build_bytes_vec().unwrap(), from).await.unwrap();
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut again = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut again).await.unwrap();
            assert_eq!(again, query[..length]);
            let whole = answer(&again, &[(0, 0, 2380, "a.test")]).build_bytes_vec().unwrap();
            stream.write_u16(u16::try_from(whole.len()).unwrap()).await.unwrap();
            stream.write_all(&whole).await.unwrap();
        });
        assert_eq!(ask(server, "_etcd-server._tcp.test").await.unwrap(), [("a.test".to_owned(), 2380)]);
    }

    proptest! {
        /// Whatever a server sends is an answer or an error.
        #[test]
        fn no_answer_is_a_crash(bytes in proptest::collection::vec(any::<u8>(), 0..200), id in any::<u16>()) {
            let _ = read(id, &bytes);
            let whole = answer(&query(id, "_a._tcp.b").unwrap(), &[(1, 2, 3, "c.d")]).build_bytes_vec_compressed().unwrap();
            let mut changed = whole.clone();
            for (at, byte) in bytes.iter().enumerate() {
                let at = (at * 7 + usize::from(*byte)) % changed.len();
                changed[at] ^= byte;
                let _ = read(id, &changed);
            }
            let _ = read(id, &whole[..usize::from(id) % whole.len()]);
        }
    }
}
