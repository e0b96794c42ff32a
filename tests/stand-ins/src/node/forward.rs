//! Lets the host forward the workloads' traffic: dockerd's FORWARD chain drops what nobody accepts.

use std::io;
use std::time::Duration;

use super::netfilter::{AcceptRule, Chain, Netfilter, Side};

/// Where `iptables` of the `nf_tables` kind, and so dockerd, has its rules.
const CHAIN: Chain<'_> = Chain { table: "filter", chain: "FORWARD" };
const RULES: [AcceptRule<'_>; 2] = [
    AcceptRule { side: Side::In, prefix: "cali", comment: "calico stand-in: from workloads" },
    AcceptRule { side: Side::Out, prefix: "cali", comment: "calico stand-in: to workloads" },
];
/// dockerd makes its chains anew when it starts.
const INTERVAL: Duration = Duration::from_secs(1);

/// Inserts the rules that are missing and returns how many; without the chain nothing drops, and nothing is done.
pub fn ensure(netfilter: &Netfilter) -> io::Result<usize> {
    if !netfilter.chain_exists(CHAIN)? {
        return Ok(0);
    }
    let Some(present) = netfilter.comments(CHAIN)? else { return Ok(0) };
    let missing = RULES.iter().filter(|rule| !present.iter().any(|text| text == rule.comment.as_bytes()));
    let mut inserted = 0;
    for rule in missing {
        netfilter.insert(CHAIN, *rule)?;
        inserted += 1;
    }
    Ok(inserted)
}

/// Keeps the rules there for ever; to be run on a thread of its own.
pub fn keep() {
    let mut last_fault = None;
    loop {
        // A socket for each round: after a failed one an answer may be left in the old.
        match Netfilter::open().and_then(|netfilter| ensure(&netfilter)) {
            Ok(0) => last_fault = None,
            Ok(inserted) => tracing::info!("inserted {inserted} rules into chain FORWARD for the workloads"),
            Err(error) => {
                let fault = error.to_string();
                if last_fault.as_ref() != Some(&fault) {
                    tracing::error!("cannot let the host forward the workloads' traffic: {fault}");
                }
                last_fault = Some(fault);
            }
        }
        std::thread::sleep(INTERVAL);
    }
}
