//! As much of `nf_tables`' netlink protocol as listing and inserting rules wants (`linux/netfilter/nf_tables.h`).

use std::io;

use rtnetlink::sys::{Socket, SocketAddr};

const NETLINK_NETFILTER: isize = 12;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE: u16 = 0x400;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// Subsystem `nf_tables` in the high byte of the message type.
const NFTABLES: u16 = 10 << 8;
const NEWRULE: u16 = NFTABLES | 6;
const GETRULE: u16 = NFTABLES | 7;
const NFPROTO_IPV4: u8 = 2;
const ENOENT: i32 = 2;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_USERDATA: u16 = 7;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;

/// Which of a packet's interfaces a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one it came in by.
    In,
    /// The one it goes out by.
    Out,
}

/// A rule that accepts packets of interfaces by the beginning of their name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptRule<'a> {
    /// Which interface.
    pub side: Side,
    /// How its name begins.
    pub prefix: &'a str,
    /// A comment; the rule is known by it.
    pub comment: &'a str,
}

/// A chain of a table of family `ip`.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a> {
    /// The table's name.
    pub table: &'a str,
    /// The chain's name.
    pub chain: &'a str,
}

/// A netlink socket to the packet filter of the current network namespace.
pub struct Netfilter {
    socket: Socket,
}

impl Netfilter {
    /// Opens the socket; requests want `CAP_NET_ADMIN`.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // The kernel answers before `send` returns: a read that would wait is a missing answer.
        socket.set_non_blocking(true)?;
        Ok(Self { socket })
    }

    /// The comments of the chain's rules, an empty one for a rule without; `None` when there is no such chain.
    pub fn comments(&self, chain: Chain<'_>) -> io::Result<Option<Vec<Vec<u8>>>> {
        self.socket.send(&list_request(chain), 0)?;
        let mut comments = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for (kind, body) in messages(&datagram) {
                match kind {
                    NLMSG_DONE => return Ok(Some(comments)),
                    NLMSG_ERROR => match error_code(body) {
                        0 => {}
                        ENOENT => return Ok(None),
                        code => return Err(io::Error::from_raw_os_error(code)),
                    },
                    NEWRULE => comments.push(comment_of(body.get(4..).unwrap_or_default()).to_vec()),
                    _ => {}
                }
            }
        }
    }

    /// Whether the chain exists: a listing of a chain that is not there may be empty instead of an error.
    pub fn chain_exists(&self, chain: Chain<'_>) -> io::Result<bool> {
        self.socket.send(&chain_request(chain), 0)?;
        match self.acknowledged() {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Inserts a rule before all others of the chain.
    pub fn insert(&self, chain: Chain<'_>, rule: AcceptRule<'_>) -> io::Result<()> {
        self.socket.send(&insert_request(chain, rule), 0)?;
        self.acknowledged()
    }

    /// Reads up to the acknowledgement, which is an error message with code 0.
    fn acknowledged(&self) -> io::Result<()> {
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for (kind, body) in messages(&datagram) {
                if kind == NLMSG_ERROR {
                    return match error_code(body) {
                        0 => Ok(()),
                        code => Err(io::Error::from_raw_os_error(code)),
                    };
                }
            }
        }
    }
}

const NFT_META_IIFNAME: u32 = 6;
const NFT_META_OIFNAME: u32 = 7;
const NFT_REG_VERDICT: u32 = 0;
const NFT_REG_1: u32 = 1;
const NFT_CMP_EQ: u32 = 0;
const NF_ACCEPT: u32 = 1;
const GETCHAIN: u16 = NFTABLES | 4;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;

fn list_request(Chain { table, chain }: Chain<'_>) -> Vec<u8> {
    let attributes = [string(NFTA_RULE_TABLE, table), string(NFTA_RULE_CHAIN, chain)].concat();
    message(GETRULE, NLM_F_REQUEST | NLM_F_DUMP, 1, NFPROTO_IPV4, 0, &attributes)
}

fn chain_request(Chain { table, chain }: Chain<'_>) -> Vec<u8> {
    let attributes = [string(NFTA_CHAIN_TABLE, table), string(NFTA_CHAIN_NAME, chain)].concat();
    message(GETCHAIN, NLM_F_REQUEST | NLM_F_ACK, 1, NFPROTO_IPV4, 0, &attributes)
}

/// A batch of one rule: meta, cmp, counter, accept, as `iptables -i prefix+ -j ACCEPT` would write it.
fn insert_request(Chain { table, chain }: Chain<'_>, rule: AcceptRule<'_>) -> Vec<u8> {
    let key = match rule.side {
        Side::In => NFT_META_IIFNAME,
        Side::Out => NFT_META_OIFNAME,
    };
    let verdict = nested(2, &number(1, NF_ACCEPT));
    let expressions = [
        expression("meta", &[number(2, key), number(1, NFT_REG_1)].concat()),
        // Only the prefix is compared, so that it stands for `prefix*`.
        expression(
            "cmp",
            &[number(1, NFT_REG_1), number(2, NFT_CMP_EQ), nested(3, &attribute(1, rule.prefix.as_bytes()))]
                .concat(),
        ),
        expression("counter", &[attribute(1, &[0; 8]), attribute(2, &[0; 8])].concat()),
        expression("immediate", &[number(1, NFT_REG_VERDICT), nested(2, &verdict)].concat()),
    ]
    .concat();
    let attributes = [
        string(NFTA_RULE_TABLE, table),
        string(NFTA_RULE_CHAIN, chain),
        nested(NFTA_RULE_EXPRESSIONS, &expressions),
        attribute(NFTA_RULE_USERDATA, &user_data(rule.comment)),
    ]
    .concat();
    let subsystem = NFTABLES >> 8;
    [
        message(BATCH_BEGIN, NLM_F_REQUEST, 1, 0, subsystem, &[]),
        message(NEWRULE, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK, 2, NFPROTO_IPV4, 0, &attributes),
        message(BATCH_END, NLM_F_REQUEST, 3, 0, subsystem, &[]),
    ]
    .concat()
}

/// A comment as `nft` and `iptables-nft` read it: type 0, length, text, zero.
fn user_data(comment: &str) -> Vec<u8> {
    let text = &comment.as_bytes()[..comment.len().min(127)];
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    [&[0, length], text, &[0]].concat()
}

/// A netlink message: its header and nfnetlink's, then the attributes.
fn message(kind: u16, flags: u16, sequence: u32, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(20 + attributes.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(20 + attributes.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(attributes);
    bytes
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn nested(kind: u16, attributes: &[u8]) -> Vec<u8> {
    attribute(kind | NLA_F_NESTED, attributes)
}

fn string(kind: u16, text: &str) -> Vec<u8> {
    attribute(kind, &[text.as_bytes(), &[0]].concat())
}

/// Its numbers are big-endian.
fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn expression(name: &str, data: &[u8]) -> Vec<u8> {
    nested(NFTA_LIST_ELEM, &[string(NFTA_EXPR_NAME, name), nested(NFTA_EXPR_DATA, data)].concat())
}

/// The messages of a datagram, each with what follows its header.
fn messages(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let Some((header, _)) = bytes.split_first_chunk::<16>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some(message) = bytes.get(16..length) else { break };
        found.push((u16::from_ne_bytes([header[4], header[5]]), message));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// The positive error number of an error message; 0 is an acknowledgement.
fn error_code(body: &[u8]) -> i32 {
    body.first_chunk().map_or(0, |code| -i32::from_ne_bytes(*code))
}

/// The comment among a rule's attributes.
fn comment_of(mut attributes: &[u8]) -> &[u8] {
    while let Some((header, _)) = attributes.split_first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let Some(value) = attributes.get(4..length) else { break };
        if u16::from_ne_bytes([header[2], header[3]]) & NLA_TYPE_MASK == NFTA_RULE_USERDATA {
            return match value {
                [0, length, text @ ..] => {
                    text.get(..usize::from(length.saturating_sub(1))).unwrap_or_default()
                }
                _ => &[],
            };
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: Chain<'_> = Chain { table: "filter", chain: "FORWARD" };
    const RULE: AcceptRule<'_> = AcceptRule { side: Side::In, prefix: "cali", comment: "mine" };

    #[test]
    fn a_rule_is_a_batch_of_three_messages() {
        let bytes = insert_request(CHAIN, RULE);
        let kinds: Vec<u16> = messages(&bytes).iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [BATCH_BEGIN, NEWRULE, BATCH_END]);
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn a_comment_is_found_in_its_own_rule() {
        let bytes = insert_request(CHAIN, RULE);
        let (_, body) = messages(&bytes)[1];
        assert_eq!(comment_of(&body[4..]), b"mine");
        let (_, list) = messages(&bytes)[0];
        assert_eq!(comment_of(&list[4..]), b"");
    }

    #[test]
    fn an_expression_is_laid_out_as_the_kernel_wants_it() {
        let expected: &[u8] = &[
            24, 0, 1, 0x80, // list element
            9, 0, 1, 0, b'm', b'e', b't', b'a', 0, 0, 0, 0, // name
            8, 0, 2, 0x80, 1, 2, 3, 4, // data
        ];
        assert_eq!(expression("meta", &[1, 2, 3, 4]), expected);
    }

    #[test]
    fn truncated_answers_end_the_reading() {
        let bytes = insert_request(CHAIN, RULE);
        for length in 0..bytes.len() {
            for (_, body) in messages(&bytes[..length]) {
                comment_of(body.get(4..).unwrap_or_default());
            }
        }
        assert_eq!(error_code(&(-2_i32).to_ne_bytes()), ENOENT);
    }
}
