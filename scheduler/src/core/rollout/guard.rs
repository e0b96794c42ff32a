//! Options whose change would cut off what runs: refused unless the operator names them.

use std::collections::{BTreeMap, BTreeSet};

/// Lists of addresses: the same system as long as one of them stays.
const LISTS: [&str; 1] = ["etcd.endpoints"];
/// Values on which nobody depends: who reaches etcd without a proxy goes on to do so.
const FREE: [(&str, &str); 1] = [("etcd.proxy", "direct")];

/// Each guarded option that `after` has another value of than `before`, though it is not `allowed`: what would change,
/// and what to do.
pub(super) fn contradictions(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
    allowed: &BTreeSet<String>,
) -> Vec<String> {
    let changed = after.iter().filter_map(|(option, new)| {
        let old = before.get(option)?;
        let same = if LISTS.contains(&option.as_str()) {
            let old: BTreeSet<&str> = old.split(',').collect();
            new.split(',').any(|address| old.contains(address))
        } else {
            old == new
        };
        let same = same || FREE.contains(&(option, old));
        (!same && !allowed.contains(option)).then(|| {
            format!(
                "{option} would change from '{old}' to '{new}', which cuts off workloads that are there: set it back, or \
                 add {option} to rollout.allow-unsafe. Until then all agents stay on the configuration of before"
            )
        })
    });
    changed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(values: &[(&str, &str)]) -> BTreeMap<String, String> {
        values.iter().map(|(option, value)| ((*option).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_change_is_refused_with_what_to_do_unless_it_is_allowed() {
        let before = values(&[("network.name", "calico"), ("node.profile", "v3")]);
        let after = values(&[("network.name", "blue"), ("node.profile", "v3"), ("network.block-size", "26")]);
        let refused = contradictions(&before, &after, &BTreeSet::new());
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(refused[0].contains("network.name would change from 'calico' to 'blue'"), "{refused:?}");
        assert!(refused[0].contains("rollout.allow-unsafe"), "{refused:?}");
        let allowed = BTreeSet::from(["network.name".to_owned()]);
        assert_eq!(contradictions(&before, &after, &allowed), Vec::<String>::new());
    }

    #[test]
    fn a_proxy_that_containers_may_still_need_stays_where_it_is() {
        let etcd = |proxy| values(&[("etcd.proxy", proxy)]);
        let refused = |before, after| contradictions(&etcd(before), &etcd(after), &BTreeSet::new()).len();
        let (plain, tls) = ("http://127.0.0.1:2379", "https://127.0.0.1:2379");
        assert_eq!([refused("direct", plain), refused(plain, plain)], [0, 0]);
        assert_eq!([refused(plain, "direct"), refused(plain, tls)], [1, 1]);
    }

    #[test]
    fn members_of_an_etcd_may_come_and_go_as_long_as_one_stays() {
        let etcd = |endpoints| values(&[("etcd.endpoints", endpoints)]);
        let refused = |before, after| contradictions(&etcd(before), &etcd(after), &BTreeSet::new()).len();
        assert_eq!(refused("http://a:1,http://b:1", "http://b:1,http://c:1"), 0);
        assert_eq!(refused("http://a:1,http://b:1", "http://c:1"), 1);
    }
}
