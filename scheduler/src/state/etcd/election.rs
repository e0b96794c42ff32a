//! Who leads: whoever made the leadership key, for as long as the lease lives that the key hangs on.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::keys::Keys;
use super::kv::{Compare, Kv, Range, Txn, Write, bounded, within};
use super::load::load;
use super::past::Past;
use super::{EtcdStore, Office, Seat};
use crate::core::State;
use crate::pulse::Pulse;
use crate::state::report::Report;
use crate::state::schema::{MIGRATIONS, Migrations};
use crate::state::tenure::Moment;
use crate::state::{StoreError, Tenure};

/// How long a leader that is gone keeps others waiting.
const LEASE: Duration = Duration::from_secs(12);

/// What that means.
const AWAY: &str = "Nothing is launched or ended until it does what it is asked; tasks go on running, and what is stored is kept";

/// How long may be looked for why etcd does not answer.
const EXPLAIN: Duration = Duration::from_secs(10);

/// A scheduler that wants to lead.
pub struct Candidate<K> {
    etcd: K,
    keys: Keys,
    /// Whole seconds.
    lasting: Duration,
    /// The leadership key's value.
    value: String,
    /// The lease that we made last: revoked before there is another one.
    lease: Option<i64>,
    has_led: bool,
    past: Past,
    report: Report,
    migrations: Migrations,
}

enum Outcome {
    Won(Seat, Moment),
    /// By whom.
    Held(String),
}

impl<K: Kv> Candidate<K> {
    /// One for the framework `service`, whose state is in `etcd` below `prefix`, and who is known to others as
    /// `holder`.
    pub fn new(etcd: K, prefix: &str, service: &str, holder: &str) -> Self {
        let keys = Keys::new(prefix, service);
        let value = serde_json::json!({ "holder": holder }).to_string();
        Self {
            etcd,
            keys,
            lasting: LEASE,
            value,
            lease: None,
            has_led: false,
            past: Past::default(),
            report: Report::default(),
            migrations: MIGRATIONS,
        }
    }

    /// How it goes is told by `report`.
    #[must_use]
    pub fn reporting(self, report: Report) -> Self {
        Self { report, ..self }
    }

    /// With other forms of records than there are.
    #[cfg(test)]
    #[must_use]
    pub(super) fn with_migrations(self, migrations: Migrations) -> Self {
        Self { migrations, ..self }
    }

    /// With a lease of other length than usual.
    #[cfg(test)]
    #[must_use]
    pub fn lasting(self, lasting: Duration) -> Self {
        Self { lasting, ..self }
    }

    /// Campaigns until we lead, and reads what is stored. When we have led before, it is an error that another one
    /// does now: two schedulers that take turns would hide that there are two.
    pub async fn open(
        &mut self,
        waiting: impl Fn(&str) + Send,
    ) -> Result<(EtcdStore<K>, State, Tenure), StoreError> {
        let mut told = String::new();
        loop {
            let why = match self.attempt().await {
                Ok(Outcome::Won(seat, since)) => match self.take_office(seat, since).await {
                    Ok(opened) => return Ok(opened),
                    Err(error) => self.unless_for_good(error).await?,
                },
                Ok(Outcome::Held(leader)) if self.has_led => return Err(StoreError::Superseded { leader }),
                Ok(Outcome::Held(leader)) => {
                    self.report.answers();
                    format!("{leader} leads")
                }
                Err(error) => self.unless_for_good(error).await?,
            };
            if told != why {
                info!("standby: {why}");
                waiting(&why);
                told = why;
            }
            sleep(self.lasting / 12).await;
        }
    }

    /// An error that time may mend, as text; otherwise a scheduler of another version may lead.
    async fn unless_for_good(&mut self, error: StoreError) -> Result<String, StoreError> {
        match error {
            StoreError::Newer { .. } | StoreError::Damaged { .. } => {
                self.resign().await;
                Err(error)
            }
            error => {
                let mut why = error.to_string();
                if let StoreError::Unavailable { .. } = error
                    && let Ok(Some(more)) = timeout(EXPLAIN, self.etcd.explain()).await
                {
                    why = format!("{why}: {more}");
                }
                self.report.away(&why);
                Ok(format!("{why}. {AWAY}"))
            }
        }
    }

    async fn attempt(&mut self) -> Result<Outcome, StoreError> {
        let before = self.past.seen();
        self.revoke().await?;
        let etcd = &self.etcd;
        let answer = bounded(etcd, etcd.range(Range::of(self.keys.leader()))).await?;
        if let Err(what) = self.past.check(before, answer.header) {
            warn!("{}: {what}: it was restored from an older snapshot", etcd.name());
            self.report.restored(what);
        }
        if self.past.take_restored() {
            // Who leads in the snapshot did so when it was taken: that has not come after us.
            self.has_led = false;
        }
        if let Some(pair) = answer.pairs.first() {
            return Ok(Outcome::Held(holder(&pair.value)));
        }
        // From here on the lease may run.
        let since = Moment::now();
        let lease = bounded(etcd, etcd.grant(self.lasting)).await?;
        self.lease = Some(lease);
        let key = self.keys.leader();
        let value = self.value.clone().into_bytes();
        let put = Write::Put { key: key.clone(), value, lease: Some(lease) };
        let txn = Txn { when: vec![Compare::Created(key, 0)], then: vec![put], or_read: None };
        let answer = bounded(etcd, etcd.txn(txn)).await?;
        if !answer.succeeded {
            return Ok(Outcome::Held("another scheduler".to_owned()));
        }
        let created = answer.header.revision;
        self.past.wrote(created);
        let seat = Seat { lease, value: self.value.clone(), created, modified: created };
        Ok(Outcome::Won(seat, since))
    }

    async fn take_office(
        &mut self,
        seat: Seat,
        since: Moment,
    ) -> Result<(EtcdStore<K>, State, Tenure), StoreError> {
        let (tenure, renewal) = Tenure::until(since.after(certain(self.lasting)));
        let office =
            Office { renewal: Arc::new(renewal), past: self.past.clone(), report: self.report.clone() };
        let mut keeper = JoinSet::new();
        let leader = self.keys.leader();
        keeper.spawn(keep(self.etcd.clone(), leader, seat.clone(), office.clone(), self.lasting));
        let loaded = load(&self.etcd, &self.keys, self.migrations).await?;
        let mut store = EtcdStore {
            etcd: self.etcd.clone(),
            keys: self.keys.clone(),
            seat,
            written: loaded.written,
            schema: loaded.schema,
            tenure: tenure.clone(),
            office,
            pulse: Pulse::default(),
            keeper,
        };
        if let Some(records) = loaded.migrated {
            info!(records = records.len(), "what is stored is of an older form, and is rewritten");
            store.migrate(records).await?;
        }
        self.report.load_history(loaded.history);
        self.report.answers();
        self.has_led = true;
        info!(etcd = self.etcd.name(), "this scheduler leads");
        Ok((store, loaded.state, tenure))
    }

    /// Ends our lease, and with it our leadership.
    async fn revoke(&mut self) -> Result<(), StoreError> {
        let Some(lease) = self.lease else { return Ok(()) };
        bounded(&self.etcd, self.etcd.revoke(lease)).await?;
        self.lease = None;
        Ok(())
    }

    /// Leads no more. When etcd is away the lease ends by itself.
    pub async fn resign(&mut self) {
        if let Err(error) = self.revoke().await {
            warn!("the lease ends by itself: {error}");
        }
    }
}

/// For how long after a renewal was asked for leadership is certain: less than the lease lasts, so that nothing of
/// ours is on its way any more when another one leads.
fn certain(lasting: Duration) -> Duration {
    lasting.mul_f64(0.9)
}

/// Renews the lease until it is lost. What counts is when a renewal was asked for: etcd's count begins later. And looks
/// whether the leadership key is still the one that we wrote.
async fn keep(etcd: impl Kv, leader: String, seat: Seat, office: Office, lasting: Duration) {
    let limit = lasting.mul_f64(0.4);
    while !office.renewal.is_over() {
        sleep(lasting / 4).await;
        let asked = Moment::now();
        let before = office.past.seen();
        let (renewed, found) = tokio::join!(
            within(&etcd, limit, etcd.keep_alive(seat.lease)),
            within(&etcd, limit, etcd.range(Range::of(leader.clone()))),
        );
        // Before anything else: nothing more is to be done by what was known.
        if let Ok(page) = &found {
            let ours = page.pairs.first().filter(|pair| pair.created == seat.created);
            let checked = match ours {
                Some(pair) => office.past.check_seat(before, page.header, pair.modified),
                None => office.past.check(before, page.header),
            };
            if let Err(what) = checked {
                office.restored(&etcd, what);
            } else if ours.is_none() {
                warn!("leadership is lost: the key is no longer ours");
                office.renewal.end();
            }
        }
        match renewed {
            Ok(true) => {
                office.renewal.extend(asked.after(certain(lasting)));
                office.report.answers();
            }
            Ok(false) => {
                warn!("the lease is lost");
                office.renewal.end();
            }
            Err(error) => {
                warn!("cannot renew the lease: {error}");
                office.report.away(error);
            }
        }
    }
}

fn holder(value: &[u8]) -> String {
    let parsed: Option<serde_json::Value> = serde_json::from_slice(value).ok();
    let holder = parsed.as_ref().and_then(|value| value["holder"].as_str());
    holder.unwrap_or("another scheduler").to_owned()
}
