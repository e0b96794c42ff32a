//! From what is seen to what there is to do: no I/O.
//!
//! What dockerd does on SIGHUP (20.10, as seen) is behind the choices here:
//!
//! - A first store takes effect. Other times and heartbeats of the same store do, too.
//! - A changed store is shown by `/info`, and Docker announces itself there; networks stay in the old one.
//! - A removed store is still shown, but Docker does not announce itself any more; and the SIGHUP that brings it back
//!   then makes dockerd hang for good. So no SIGHUP is sent to one that has a store and was not seen to be announced.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::daemon_json::DaemonJson;
use super::wanted::{StoreKind, TLS_OPTIONS, Wanted};
use crate::exit::{Failure, Result};
use crate::host::docker::Info;

/// What makes Docker take what is in daemon.json.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// SIGHUP to a Docker that has no store.
    TakeFirstStore,
    /// SIGHUP to a Docker that has the store, and other options of it.
    TakeOptions,
    /// A restart.
    Restart,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TakeFirstStore => "let Docker take its first cluster store (SIGHUP)",
            Self::TakeOptions => "let Docker take the store's options (SIGHUP)",
            Self::Restart => "restart Docker",
        })
    }
}

/// What is seen in the store itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It was read.
    Seen {
        /// Whether Docker announces itself there.
        announced: bool,
        /// Whether Docker has networks of the whole cluster, and none of them is there.
        networks_elsewhere: bool,
    },
    /// It is of a kind that we do not read; Docker itself must tell.
    Unread,
}

/// What is seen of a Docker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// What it says of itself; `None` when it is down since a restart of ours that was not seen to its end.
    pub info: Option<Info>,
    /// Its configuration.
    pub document: DaemonJson,
    /// Whether the store in there is one that we put there.
    pub is_ours: bool,
    /// What is seen in the wanted store.
    pub effect: Effect,
    /// What an interrupted run had begun.
    pub unfinished: Vec<Action>,
}

/// What there is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The file as it is to be.
    pub document: DaemonJson,
    /// What makes it take effect, and why.
    pub action: Option<(Action, String)>,
}

/// Refuses a Docker that cannot have a cluster store of this kind.
pub fn check_suitable(info: &Info, kind: StoreKind) -> Result<()> {
    let version = &info.server_version;
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok());
    let mut parts = version.split(|c: char| !c.is_ascii_digit());
    let (Some(major), Some(minor)) = (number(parts.next()), number(parts.next())) else {
        return Err(Failure::unsuitable(format!("Docker's version {version:?} is not understood")));
    };
    if (major, minor) < (1, 10) {
        return Err(Failure::not_applicable(format!(
            "Docker {version} takes a cluster store only on its command line: 1.10 or later is needed"
        )));
    }
    if major >= 23 {
        return Err(Failure::not_applicable(format!(
            "Docker {version} has no cluster store any more: 20.10 was the last that has"
        )));
    }
    // Seen with 20.10.24: it makes networks there, and panics in the request that is to remove one.
    if kind == StoreKind::Zk && (major, minor) >= (20, 10) {
        return Err(Failure::unsuitable(format!(
            "Docker {version} cannot remove a network that is kept in ZooKeeper: give an etcd as --docker-cluster-store"
        )));
    }
    if !matches!(info.swarm.local_node_state.as_str(), "" | "inactive") {
        return Err(Failure::unsuitable(format!(
            "Docker is part of a swarm ({}), and cannot have a cluster store besides: `docker swarm leave` first",
            info.swarm.local_node_state
        )));
    }
    Ok(())
}

/// Decides. `replace` permits to replace a store that someone else configured.
pub fn decide(observed: &Observed, wanted: &Wanted, replace: bool) -> Result<Decision> {
    if !replace {
        refuse_foreign(observed, wanted)?;
    }
    let document = observed.document.with_store(wanted);
    let action = action(observed, wanted, &document);
    Ok(Decision { document, action })
}

fn refuse_foreign(observed: &Observed, wanted: &Wanted) -> Result<()> {
    let (store, advertise) = (wanted.store.to_string(), wanted.advertise.to_string());
    let in_file = (observed.document.store(), observed.document.advertise());
    let advice = "take it out, or use --docker-replace-store";
    if !observed.is_ours {
        if let Some(theirs) = in_file.0.as_ref().filter(|theirs| **theirs != store) {
            return Err(Failure::unsuitable(format!(
                "daemon.json has the cluster store {theirs} of someone else, not {store}: {advice}"
            )));
        }
        if let Some(theirs) = in_file.1.as_ref().filter(|theirs| **theirs != advertise) {
            return Err(Failure::unsuitable(format!(
                "daemon.json has the cluster-advertise {theirs} of someone else, not {advertise}: {advice}, or give \
                 the same as --docker-cluster-advertise"
            )));
        }
    }
    let Some(info) = &observed.info else { return Ok(()) };
    let theirs = &info.cluster_store;
    // A restart that an earlier run had begun was to end just that store.
    let to_be_ended = in_file.0.as_ref() == Some(theirs) || observed.unfinished.contains(&Action::Restart);
    let known = theirs.is_empty() || *theirs == store || (observed.is_ours && to_be_ended);
    if known {
        return Ok(());
    }
    Err(Failure::unsuitable(format!(
        "Docker has the cluster store {theirs} of someone else in memory, not {store}: restart Docker when daemon.json is \
         without it, or use --docker-replace-store"
    )))
}

fn action(observed: &Observed, wanted: &Wanted, document: &DaemonJson) -> Option<(Action, String)> {
    let because = |text: &str| text.to_owned();
    let Some(info) = &observed.info else {
        return Some((Action::Restart, because("it is down since an earlier run restarted it")));
    };
    let (store, advertise) = (wanted.store.to_string(), wanted.advertise.to_string());
    if info.cluster_store.is_empty() {
        return Some((Action::TakeFirstStore, because("it has none")));
    }
    if info.cluster_store != store {
        let text =
            format!("it has the cluster store {}, and takes another only at its start", info.cluster_store);
        return Some((Action::Restart, text));
    }
    if info.cluster_advertise != advertise {
        let is = &info.cluster_advertise;
        return Some((
            Action::Restart,
            format!("it is known as {is}, and takes another address only at its start"),
        ));
    }
    match observed.effect {
        Effect::Seen { networks_elsewhere: true, .. } => {
            let text = "it says that it has the store, but has its networks in another";
            return Some((Action::Restart, because(text)));
        }
        Effect::Seen { announced: false, .. } => {
            let text = "it says that it has the store, but does not announce itself there";
            return Some((Action::Restart, because(text)));
        }
        Effect::Seen { .. } | Effect::Unread => {}
    }
    // What is not in the file any more is still in Docker's memory: nothing needs to be told.
    observed.document.store()?;
    let (is, wanted) = (observed.document.options(), document.options());
    if TLS_OPTIONS.iter().any(|name| is.get(*name) != wanted.get(*name)) {
        return Some((Action::Restart, because("it takes other files of TLS only at its start")));
    }
    if is != wanted {
        return Some((Action::TakeOptions, because("they differ")));
    }
    observed
        .unfinished
        .contains(&Action::TakeOptions)
        .then(|| (Action::TakeOptions, because("an earlier run was interrupted")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use crate::host::docker::Swarm;

    const STORE: &str = "etcd://10.0.0.1:2379";
    const ADVERTISE: &str = "10.0.0.11:2376";

    fn wanted() -> Wanted {
        Wanted::new(STORE.parse().unwrap(), ADVERTISE.parse().unwrap(), &[], 500).unwrap()
    }

    fn parse(text: &str) -> DaemonJson {
        DaemonJson::parse(Some(text.as_bytes())).unwrap()
    }

    /// A Docker that has what is wanted, all of it ours.
    fn installed() -> Observed {
        Observed {
            info: Some(Info {
                server_version: "20.10.24+dfsg1".into(),
                cluster_store: STORE.into(),
                cluster_advertise: ADVERTISE.into(),
                ..Info::default()
            }),
            document: parse("{}").with_store(&wanted()),
            is_ours: true,
            effect: Effect::Seen { announced: true, networks_elsewhere: false },
            unfinished: Vec::new(),
        }
    }

    fn seen(change: impl FnOnce(&mut Observed)) -> Observed {
        let mut observed = installed();
        change(&mut observed);
        observed
    }

    fn action_of(observed: &Observed) -> Option<Action> {
        decide(observed, &wanted(), false).unwrap().action.map(|(action, _)| action)
    }

    #[test]
    fn nothing_is_done_twice() {
        let decision = decide(&installed(), &wanted(), false).unwrap();
        assert_eq!(decision, Decision { document: installed().document, action: None });
        assert_eq!(action_of(&seen(|it| it.effect = Effect::Unread)), None);
        assert_eq!(action_of(&seen(|it| it.unfinished = vec![Action::Restart])), None);
    }

    #[test]
    fn a_first_store_takes_a_signal_and_a_changed_one_a_restart() {
        let first = seen(|it| {
            it.info.as_mut().unwrap().cluster_store.clear();
            it.document = parse("{}");
            it.effect = Effect::Seen { announced: false, networks_elsewhere: false };
        });
        assert_eq!(action_of(&first), Some(Action::TakeFirstStore));
        // Written, and then the run was interrupted.
        let written = Observed { document: installed().document, ..first };
        assert_eq!(action_of(&written), Some(Action::TakeFirstStore));

        let other = |it: &mut Observed| {
            it.info.as_mut().unwrap().cluster_store = "etcd://old:1".into();
            it.document = parse(r#"{"cluster-store":"etcd://old:1"}"#);
        };
        assert_eq!(action_of(&seen(other)), Some(Action::Restart));
        let moved = seen(|it| it.info.as_mut().unwrap().cluster_advertise = "10.0.0.9:1".into());
        assert_eq!(action_of(&moved), Some(Action::Restart));
    }

    #[test]
    fn a_docker_that_only_says_so_is_not_believed_and_not_signalled() {
        for effect in [
            Effect::Seen { announced: false, networks_elsewhere: false },
            Effect::Seen { announced: true, networks_elsewhere: true },
        ] {
            let observed = seen(|it| {
                it.effect = effect;
                it.document = parse("{}");
            });
            assert_eq!(action_of(&observed), Some(Action::Restart));
        }
    }

    #[test]
    fn a_store_in_memory_only_is_written_without_a_signal() {
        let observed = seen(|it| it.document = parse("{}"));
        let decision = decide(&observed, &wanted(), false).unwrap();
        assert_eq!(decision.action, None);
        assert_eq!(decision.document.store().as_deref(), Some(STORE));
    }

    #[test]
    fn options_take_a_signal_and_files_of_tls_a_restart() {
        let with = |options: &str| {
            seen(|it| {
                it.document = parse(&format!(
                    r#"{{"cluster-store":"{STORE}","cluster-advertise":"{ADVERTISE}","cluster-store-opts":{options}}}"#
                ));
            })
        };
        assert_eq!(action_of(&with(r#"{"discovery.ttl":"9"}"#)), Some(Action::TakeOptions));
        let again = Observed { unfinished: vec![Action::TakeOptions], ..installed() };
        assert_eq!(action_of(&again), Some(Action::TakeOptions));
        let tls = ["kv.cacertfile=/a", "kv.certfile=/b", "kv.keyfile=/c"].map(|text| text.parse().unwrap());
        let wanted = Wanted::new(STORE.parse().unwrap(), ADVERTISE.parse().unwrap(), &tls, 500).unwrap();
        let decision = decide(&with("{}"), &wanted, false).unwrap();
        assert_eq!(decision.action.unwrap().0, Action::Restart);
    }

    #[test]
    fn a_docker_that_is_down_after_our_restart_is_started() {
        assert_eq!(action_of(&seen(|it| it.info = None)), Some(Action::Restart));
    }

    #[test]
    fn someone_else_s_store_is_refused_unless_it_may_be_replaced() {
        let theirs = r#"{"cluster-store":"zk://z:1","cluster-advertise":"eth0:1"}"#;
        let in_file = seen(|it| (it.is_ours, it.document) = (false, parse(theirs)));
        let in_memory = seen(|it| it.info.as_mut().unwrap().cluster_store = "zk://z:1".into());
        let address = seen(|it| {
            it.is_ours = false;
            it.document = parse(&format!(r#"{{"cluster-store":"{STORE}","cluster-advertise":"eth0:1"}}"#));
        });
        for (observed, words) in [(in_file, "zk://z:1"), (in_memory, "in memory"), (address, "eth0:1")] {
            let failure = decide(&observed, &wanted(), false).unwrap_err();
            assert_eq!(failure.exit(), Exit::Unsuitable);
            assert!(failure.to_string().contains(words), "{failure}");
            assert!(failure.to_string().contains("--docker-replace-store"), "{failure}");
            assert!(decide(&observed, &wanted(), true).is_ok());
        }
        // Killed when the file was written, and before the restart.
        let interrupted = seen(|it| {
            it.info.as_mut().unwrap().cluster_store = "etcd://old:1".into();
            it.unfinished = vec![Action::Restart];
        });
        assert_eq!(action_of(&interrupted), Some(Action::Restart));
        assert!(decide(&Observed { is_ours: false, ..interrupted }, &wanted(), false).is_err());
        // What is just as we want it is nobody's.
        assert_eq!(action_of(&seen(|it| it.is_ours = false)), None);
    }

    #[test]
    fn only_dockers_with_cluster_stores_are_suitable() {
        let in_store = |version: &str, swarm: &str, kind| {
            let swarm = Swarm { local_node_state: swarm.into() };
            let info = Info { server_version: version.into(), swarm, ..Info::default() };
            check_suitable(&info, kind).err().map(|failure| failure.exit())
        };
        let of = |version: &str, swarm: &str| in_store(version, swarm, StoreKind::Etcd);
        for version in ["1.10.0", "1.13.1", "17.03.2-ce", "18.06.3-ce", "20.10.24+dfsg1"] {
            assert_eq!(of(version, "inactive"), None, "{version}");
        }
        for version in ["1.9.1", "0.9", "23.0.0", "29.1.3"] {
            assert_eq!(of(version, "inactive"), Some(Exit::NotApplicable), "{version}");
        }
        assert_eq!(of("dev", ""), Some(Exit::Unsuitable));
        assert_eq!(in_store("19.03.15", "", StoreKind::Zk), None);
        assert_eq!(in_store("20.10.24+dfsg1", "", StoreKind::Zk), Some(Exit::Unsuitable));
        for state in ["active", "pending", "locked", "error"] {
            assert_eq!(of("20.10.5", state), Some(Exit::Unsuitable), "{state}");
        }
    }
}
