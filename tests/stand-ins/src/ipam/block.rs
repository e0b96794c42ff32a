//! A host's block of addresses, in Calico's JSON, and what can be done to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::cidr::Cidr;

/// A block: which of its addresses belong to which handle.
///
/// Fields are private because they must agree: an address is either unallocated, once, or points to the
/// attributes of its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Block {
    cidr: Cidr,
    affinity: String,
    strict_affinity: bool,
    /// For each address the index of its owner in `attributes`.
    allocations: Vec<Option<usize>>,
    /// Free ordinals, the one to be given next first: an address rests as long as possible.
    unallocated: Vec<usize>,
    attributes: Vec<Attributes>,
    deleted: bool,
}

/// The owner of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Attributes {
    handle_id: String,
    secondary: BTreeMap<String, String>,
}

/// Why a block read from etcd is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BlockError {
    /// The list has another length than the network.
    #[error("{found} allocations for the {expected} addresses of {cidr}")]
    Length {
        /// The block's network.
        cidr: Cidr,
        /// Entries found.
        found: usize,
        /// Addresses of the network.
        expected: u64,
    },
    /// An allocation points to attributes that are not there.
    #[error("address {0} points to attributes that are not there")]
    Dangling(usize),
    /// The free list and the allocations disagree.
    #[error("the free list does not match the allocations")]
    FreeList,
    /// Not `host:<node>`.
    #[error("affinity {0:?} is not of the form host:<node>")]
    Affinity(String),
}

impl Block {
    /// An empty block of `node`.
    pub fn new(cidr: Cidr, node: &str) -> Self {
        let addresses = usize::try_from(cidr.size()).unwrap_or(usize::MAX);
        Self {
            cidr,
            affinity: format!("host:{node}"),
            strict_affinity: false,
            allocations: vec![None; addresses],
            unallocated: (0..addresses).collect(),
            attributes: Vec::new(),
            deleted: false,
        }
    }

    /// Checks that the parts agree: a block from etcd may be anyone's work.
    pub fn check(self) -> Result<Self, BlockError> {
        if self.allocations.len() as u64 != self.cidr.size() {
            return Err(BlockError::Length {
                cidr: self.cidr,
                found: self.allocations.len(),
                expected: self.cidr.size(),
            });
        }
        if !self.affinity.starts_with("host:") {
            return Err(BlockError::Affinity(self.affinity));
        }
        let dangling = |owner: &Option<usize>| owner.is_some_and(|owner| owner >= self.attributes.len());
        if let Some(ordinal) = self.allocations.iter().position(dangling) {
            return Err(BlockError::Dangling(ordinal));
        }
        let listed: BTreeSet<usize> = self.unallocated.iter().copied().collect();
        let free: BTreeSet<usize> =
            (0..self.allocations.len()).filter(|&ordinal| self.allocations[ordinal].is_none()).collect();
        if listed != free || listed.len() != self.unallocated.len() {
            return Err(BlockError::FreeList);
        }
        Ok(self)
    }

    /// Its network.
    pub fn cidr(&self) -> Cidr {
        self.cidr
    }

    /// The host that it belongs to.
    pub fn node(&self) -> &str {
        self.affinity.strip_prefix("host:").unwrap_or_default()
    }

    /// How many addresses are free.
    pub fn free(&self) -> usize {
        self.unallocated.len()
    }

    /// Gives `handle` the address that has been free for longest, or `None` when the block is full.
    pub fn assign(&mut self, handle: &str, secondary: BTreeMap<String, String>) -> Option<Ipv4Addr> {
        if self.unallocated.is_empty() {
            return None;
        }
        let ordinal = self.unallocated.remove(0);
        self.give(ordinal, handle, secondary)
    }

    /// Gives `handle` this address; `None` when it is given already, or is not of this block.
    pub fn assign_exactly(
        &mut self,
        address: Ipv4Addr,
        handle: &str,
        secondary: BTreeMap<String, String>,
    ) -> Option<Ipv4Addr> {
        let is_it = |ordinal: &usize| self.cidr.nth(*ordinal as u64) == Some(address);
        let position = self.unallocated.iter().position(is_it)?;
        let ordinal = self.unallocated.remove(position);
        self.give(ordinal, handle, secondary)
    }

    fn give(
        &mut self,
        ordinal: usize,
        handle: &str,
        secondary: BTreeMap<String, String>,
    ) -> Option<Ipv4Addr> {
        self.allocations[ordinal] = Some(self.attributes.len());
        self.attributes.push(Attributes { handle_id: handle.to_owned(), secondary });
        self.cidr.nth(ordinal as u64)
    }

    /// The handle that has `address`.
    pub fn owner(&self, address: Ipv4Addr) -> Option<&str> {
        let ordinal = (0..self.allocations.len()).find(|n| self.cidr.nth(*n as u64) == Some(address))?;
        self.allocations[ordinal].map(|owner| self.attributes[owner].handle_id.as_str())
    }

    /// Frees all addresses of `handle` and returns them.
    pub fn release(&mut self, handle: &str) -> Vec<Ipv4Addr> {
        let mut released = Vec::new();
        let mut kept = Vec::new();
        // Attributes move up when one before them goes.
        let moved: Vec<Option<usize>> = std::mem::take(&mut self.attributes)
            .into_iter()
            .map(|attributes| {
                (attributes.handle_id != handle).then(|| {
                    kept.push(attributes);
                    kept.len() - 1
                })
            })
            .collect();
        self.attributes = kept;
        for (ordinal, owner) in self.allocations.iter_mut().enumerate() {
            let Some(index) = *owner else { continue };
            *owner = moved[index];
            if owner.is_none() {
                self.unallocated.push(ordinal);
                released.extend(self.cidr.nth(ordinal as u64));
            }
        }
        released
    }

    /// The addresses of `handle`.
    pub fn addresses(&self, handle: &str) -> Vec<Ipv4Addr> {
        let owned =
            |owner: &Option<usize>| owner.is_some_and(|owner| self.attributes[owner].handle_id == handle);
        self.allocations
            .iter()
            .enumerate()
            .filter(|(_, owner)| owned(owner))
            .filter_map(|(ordinal, _)| self.cidr.nth(ordinal as u64))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block() -> Block {
        Block::new("10.1.0.64/28".parse().unwrap(), "host-a")
    }

    #[test]
    fn has_calicos_form() {
        let mut block = Block::new("10.1.0.64/30".parse().unwrap(), "host-a");
        block.assign("calico.c1", BTreeMap::from([("node".to_owned(), "host-a".to_owned())])).unwrap();
        assert_eq!(
            serde_json::to_string(&block).unwrap(),
            r#"{"cidr":"10.1.0.64/30","affinity":"host:host-a","strictAffinity":false,"allocations":[0,null,null,null],"unallocated":[1,2,3],"attributes":[{"handle_id":"calico.c1","secondary":{"node":"host-a"}}],"deleted":false}"#
        );
    }

    #[test]
    fn a_full_block_gives_nothing() {
        let mut block = block();
        for n in 0..16 {
            assert!(block.assign(&format!("c{n}"), BTreeMap::new()).is_some());
        }
        assert_eq!(block.assign("one-more", BTreeMap::new()), None);
        assert_eq!(block.free(), 0);
    }

    #[test]
    fn a_released_address_rests() {
        let mut block = block();
        let first = block.assign("a", BTreeMap::new()).unwrap();
        assert_eq!(block.release("a"), [first]);
        assert_ne!(block.assign("b", BTreeMap::new()), Some(first));
    }

    #[test]
    fn an_address_that_is_asked_for_is_given_once() {
        let mut block = block();
        let (inside, outside) = (Ipv4Addr::new(10, 1, 0, 70), Ipv4Addr::new(10, 1, 0, 1));
        assert_eq!(block.assign_exactly(inside, "a", BTreeMap::new()), Some(inside));
        assert_eq!((block.owner(inside), block.free()), (Some("a"), 15));
        assert_eq!(block.assign_exactly(inside, "b", BTreeMap::new()), None);
        assert_eq!(block.assign_exactly(outside, "b", BTreeMap::new()), None);
        block.check().unwrap();
    }

    #[test]
    fn refuses_what_does_not_agree() {
        let spoilt = |change: fn(&mut Block)| {
            let mut block = block();
            block.assign("a", BTreeMap::new()).unwrap();
            change(&mut block);
            block.check().unwrap_err()
        };
        assert_eq!(spoilt(|block| block.allocations[3] = Some(9)), BlockError::Dangling(3));
        assert_eq!(spoilt(|block| block.unallocated.push(0)), BlockError::FreeList);
        assert_eq!(spoilt(|block| block.unallocated.push(5)), BlockError::FreeList);
        assert!(matches!(spoilt(|block| block.allocations.truncate(3)), BlockError::Length { .. }));
        assert!(matches!(spoilt(|block| block.affinity = "x".to_owned()), BlockError::Affinity(_)));
    }

    proptest! {
        /// Against a plain map: no address twice, none lost, always consistent, also through JSON.
        #[test]
        fn behaves_as_a_map_of_addresses(steps in prop::collection::vec((any::<bool>(), 0_u8..12), 1..80)) {
            let mut block = block();
            let mut model: BTreeMap<Ipv4Addr, String> = BTreeMap::new();
            for (assign, owner) in steps {
                let handle = format!("calico.{owner}");
                if assign {
                    if let Some(address) = block.assign(&handle, BTreeMap::new()) {
                        prop_assert!(block.cidr().contains(address));
                        prop_assert_eq!(model.insert(address, handle), None);
                    } else { prop_assert_eq!(model.len(), 16) }
                } else {
                    let mut released = block.release(&handle);
                    released.sort_unstable();
                    let expected: Vec<Ipv4Addr> =
                        model.iter().filter(|(_, owner)| **owner == handle).map(|(address, _)| *address).collect();
                    prop_assert_eq!(released, expected);
                    model.retain(|_, owner| *owner != handle);
                }
                let json = serde_json::to_string(&block).unwrap();
                block = serde_json::from_str::<Block>(&json).unwrap().check().unwrap();
                prop_assert_eq!(block.free() + model.len(), 16);
                for (address, handle) in &model {
                    prop_assert!(block.addresses(handle).contains(address));
                }
            }
        }
    }
}
