//! What operators of Mesos 0.28 read: every command of that part of `docs/manual-install.md` is run, in the page's order, on a
//! host of DC/OS 1.7 and on one of plain Mesos, and the app of `docs/usage.md` is one that Marathon of that time takes. All other
//! parts are `tests/e2e/product/pages.rs`', on real hosts.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use calico_installer::host::files::sha256_hex;
use serde::Deserialize;

#[path = "support/page.rs"]
mod page;
mod support;
use page::{Block, OLD, blocks, page};
use support::old::{Kind, Old};
use support::text;

/// From here on the shared part needs etcd and Docker, as every other way does.
const SHARED_END: &str = "**What can be told before anything is changed**";

/// The blocks of a page that are ours, with their places as others have them.
fn ours(page: &str) -> Vec<Block> {
    let strip = |block: Block| Some(Block { place: block.place.strip_suffix(OLD)?.to_owned(), ..block });
    blocks(page).into_iter().filter_map(strip).collect()
}

/// Follows the page: the files that it has curl fetch are the host's `/scratch`.
fn follow(host: &Old, block: &Block) {
    let Block { place, text: code, language, line } = block;
    if let Some(file) = place.strip_prefix("file ").or_else(|| place.strip_prefix("more of ")) {
        let path = host.path(file.trim_start_matches('/'));
        let before =
            if place.starts_with("file ") { String::new() } else { fs::read_to_string(&path).unwrap() };
        fs::write(path, before + &filled(host, code)).unwrap();
        return;
    }
    assert_eq!((&**place, &**language), ("on every host", "sh"), "line {line}");
    let output = host.command(&["env", "FILES=file:///scratch", "sh", "-euc", code]).output().unwrap();
    assert!(output.status.success(), "line {line}: {code}\n{}", text(&output));
}

/// The page's lines with this host's hashes.
fn filled(host: &Old, lines: &str) -> String {
    let mut filled = String::new();
    for line in lines.lines() {
        let line = match line.strip_suffix("64-HEX-DIGITS") {
            Some(option) => {
                let name = option.rsplit_once('/').unwrap().1.strip_suffix("#sha256=").unwrap();
                format!("{option}{}", sha256_hex(&fs::read(host.scratch(name)).unwrap()))
            }
            None => line.to_owned(),
        };
        writeln!(filled, "{line}").unwrap();
    }
    filled
}

#[test]
#[ignore = "mounts, which takes root"]
fn what_the_page_says_of_mesos_0_28_works_on_dcos_and_on_plain_mesos() {
    let manual = page("manual-install.md");
    let (shared, _) = manual.split_once(SHARED_END).unwrap();
    let (shared, own) = (blocks(shared), ours(&manual));
    assert_eq!((shared.len(), own.len()), (3, 4), "a block more: is it run here?");
    for kind in [Kind::DcOs, Kind::Packages] {
        let host = Old::new(kind);
        let program = host.command(&["cat", "/mnt/calico-installer"]).output().unwrap().stdout;
        fs::write(host.scratch("calico-installer"), program).unwrap();
        for name in
            ["etcd", "calico", "calico-ipam", "calicoctl", "libmesos_network_isolator.so", "calico_mesos"]
        {
            fs::write(host.scratch(name), name).unwrap();
        }
        fs::create_dir_all(host.path("opt")).unwrap();
        for block in &shared {
            follow(&host, block);
        }
        let before = host.snapshot();
        let (variables, rest) = own.split_first().unwrap();
        follow(&host, variables);
        // This host's agent is where the test has it.
        let env = host.path("etc/calico-dcos.env");
        let of_test = format!("CALICO_MESOS_AGENT={}\n", host.agent);
        fs::write(&env, fs::read_to_string(&env).unwrap() + &of_test).unwrap();
        let [programs, apply, undo] = rest else { panic!("{} blocks", rest.len()) };
        follow(&host, programs);
        follow(&host, apply);
        assert!(host.has_modules(), "{kind:?}");
        assert_eq!(host.asked().len(), 1);
        follow(&host, undo);
        assert!(!host.has_modules());
        let mut after = host.snapshot();
        let env = PathBuf::from("etc/calico-dcos.env");
        after.insert(env.clone(), before[&env].clone());
        assert!(after == before, "{kind:?}");
    }
}

/// A Marathon app, as version 0.14 to 1.4 takes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct App {
    id: String,
    instances: u32,
    cpus: f64,
    mem: f64,
    cmd: String,
    #[serde(rename = "ipAddress")]
    ip_address: IpAddress,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct IpAddress {
    groups: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[test]
fn the_app_of_the_usage_page_is_one_that_marathon_of_that_time_takes() {
    let own = ours(&page("usage.md"));
    let [Block { place, text, .. }] = &own[..] else { panic!("{} blocks", own.len()) };
    assert_eq!(place, "marathon app");
    let App { id, instances, cpus, mem, cmd, ip_address } = serde_json::from_str(text).unwrap();
    let IpAddress { groups, labels } = ip_address;
    let is_label =
        |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    assert!(id.strip_prefix('/').unwrap().split('/').all(is_label), "{id}");
    assert!(instances > 0 && cpus > 0.0 && mem >= 32.0 && !cmd.is_empty() && labels.is_empty());
    // Each is a profile's name.
    assert!(!groups.is_empty() && groups.iter().all(|group| is_label(group)), "{groups:?}");
}
