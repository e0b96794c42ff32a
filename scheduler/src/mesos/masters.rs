//! Which master to subscribe with.

use tokio::sync::watch;

use super::client::{Condition, Leader};
use super::zookeeper::{self, Candidate};
use crate::config::{self, Server};

/// The masters that there are.
#[derive(Debug, Clone)]
pub(super) enum Masters {
    /// Each in its turn.
    Named { servers: Vec<Server>, turn: usize },
    /// The one that leads, as `ZooKeeper` has it.
    Found(watch::Receiver<Option<Candidate>>),
}

impl Masters {
    /// `condition` is told why no master is known.
    pub fn start(masters: config::Masters, condition: &watch::Sender<Condition>) -> Self {
        match masters {
            config::Masters::Named(servers) => Self::Named { servers, turn: 0 },
            config::Masters::ZooKeeper(zookeeper) => {
                let (sender, receiver) = watch::channel(None);
                let (unwatched, condition) = (sender.clone(), condition.clone());
                // A scheduler that leads again watches anew: the session ends with its last reader.
                tokio::spawn(async move {
                    tokio::select! {
                        () = zookeeper::follow(zookeeper, sender, condition) => {}
                        () = unwatched.closed() => {}
                    }
                });
                Self::Found(receiver)
            }
        }
    }

    /// The next one to try; waits until there is one.
    pub async fn next(&mut self) -> Candidate {
        match self {
            Self::Named { servers, turn } if !servers.is_empty() => {
                let server = servers[*turn % servers.len()].clone();
                *turn = turn.wrapping_add(1);
                Candidate { number: 0, server }
            }
            Self::Found(leader) => seen(leader, |_| true).await,
            Self::Named { .. } => std::future::pending().await,
        }
    }

    /// Waits until another master than `last` leads, and than the one that we are `subscribed` with after a redirect.
    pub async fn other_leads(self, mut last: Candidate, subscribed: watch::Receiver<Option<Leader>>) {
        let Self::Found(mut leader) = self else { return std::future::pending().await };
        loop {
            let now = seen(&mut leader, |leader| *leader != last).await;
            let ours = subscribed.borrow().as_ref().is_some_and(|ours| ours.server == now.server);
            if !ours || now.server == last.server {
                return;
            }
            // The master that redirected us knew it before ZooKeeper told us.
            last = now;
        }
    }
}

/// Waits for a leader that is `wanted`; for ever when nobody looks for one any more, at the process's end.
async fn seen(
    leader: &mut watch::Receiver<Option<Candidate>>,
    wanted: impl Fn(&Candidate) -> bool,
) -> Candidate {
    let found = leader.wait_for(|leader| leader.as_ref().is_some_and(&wanted)).await;
    let found = found.ok().and_then(|leader| leader.clone());
    match found {
        Some(candidate) => candidate,
        None => std::future::pending().await,
    }
}
