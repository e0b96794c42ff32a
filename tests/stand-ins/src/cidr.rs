//! IPv4 networks, written strictly: no bit set beyond the prefix.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// An IPv4 network such as `192.168.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    network: Ipv4Addr,
    length: u8,
}

/// Why a text is not a network.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CidrError {
    /// Not of the form `a.b.c.d/length`.
    #[error("{0:?} is not an IPv4 network; expected the form 192.168.0.0/16")]
    Form(String),
    /// Bits are set behind the prefix.
    #[error("{given} is not strictly masked; the network is {masked}")]
    HostBits {
        /// The text as it was given.
        given: String,
        /// The network that it probably means.
        masked: Cidr,
    },
}

impl Cidr {
    /// The network of `length` bits that holds `address`; lengths above 32 count as 32.
    pub fn containing(address: Ipv4Addr, length: u8) -> Self {
        let length = length.min(32);
        Self { network: Ipv4Addr::from_bits(address.to_bits() & mask(length)), length }
    }

    /// The first address.
    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    /// The prefix length in bits.
    pub fn length(self) -> u8 {
        self.length
    }

    /// How many addresses there are.
    pub fn size(self) -> u64 {
        1 << (32 - u32::from(self.length))
    }

    /// The address at `offset` from the first, when it is inside.
    pub fn nth(self, offset: u64) -> Option<Ipv4Addr> {
        if offset >= self.size() {
            return None;
        }
        let offset = u32::try_from(offset).ok()?;
        self.network.to_bits().checked_add(offset).map(Ipv4Addr::from_bits)
    }

    /// Whether `address` is inside.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.length) == self.network.to_bits()
    }

    /// Whether the two share an address.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }

    /// The networks of `length` bits inside, in order; none when `length` is shorter than the own prefix.
    pub fn subnets(self, length: u8) -> impl Iterator<Item = Self> {
        let count = match length.checked_sub(self.length) {
            Some(bits) if length <= 32 => 1_u64 << bits,
            _ => 0,
        };
        let step = 1_u64 << (32 - u32::from(length.min(32)));
        (0..count)
            .filter_map(move |index| self.nth(index * step))
            .map(move |network| Self { network, length })
    }

    /// The form of Calico's keys: `192.168.0.0-26`.
    pub fn key_form(self) -> String {
        format!("{}-{}", self.network, self.length)
    }
}

fn mask(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let form = || CidrError::Form(text.to_owned());
        let (address, length) = text.split_once('/').ok_or_else(form)?;
        let address: Ipv4Addr = address.parse().map_err(|_| form())?;
        let length: u8 = length.parse().map_err(|_| form())?;
        if length > 32 {
            return Err(form());
        }
        let masked = Self::containing(address, length);
        if masked.network == address {
            Ok(masked)
        } else {
            Err(CidrError::HostBits { given: text.to_owned(), masked })
        }
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn parses_strictly() {
        assert_eq!(cidr("10.1.0.0/16").to_string(), "10.1.0.0/16");
        assert_eq!(cidr("0.0.0.0/0").size(), 1 << 32);
        for bad in ["10.0.0.0", "10.0.0.0/33", "10.0.0/8", "fd00::/64", "10.0.0.0/", ""] {
            assert_eq!(bad.parse::<Cidr>(), Err(CidrError::Form(bad.to_owned())));
        }
        assert_eq!(
            "10.0.0.5/16".parse::<Cidr>().unwrap_err().to_string(),
            "10.0.0.5/16 is not strictly masked; the network is 10.0.0.0/16"
        );
    }

    #[test]
    fn subnets_cover_the_network_in_order() {
        let blocks: Vec<String> = cidr("10.0.0.0/24").subnets(26).map(|block| block.to_string()).collect();
        assert_eq!(blocks, ["10.0.0.0/26", "10.0.0.64/26", "10.0.0.128/26", "10.0.0.192/26"]);
        assert_eq!(cidr("10.0.0.0/26").subnets(24).count(), 0);
        assert_eq!(cidr("255.255.255.255/32").subnets(32).count(), 1);
    }

    #[test]
    fn overlap_is_mutual() {
        assert!(cidr("10.0.0.0/8").overlaps(cidr("10.3.0.0/16")));
        assert!(cidr("10.3.0.0/16").overlaps(cidr("10.0.0.0/8")));
        assert!(!cidr("10.3.0.0/16").overlaps(cidr("10.4.0.0/16")));
    }

    #[test]
    fn keys_have_no_slash() {
        assert_eq!(cidr("192.168.0.64/26").key_form(), "192.168.0.64-26");
    }
}
