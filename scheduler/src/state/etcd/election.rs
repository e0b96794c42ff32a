//! Who leads: whoever made the leadership key, for as long as the lease lives that the key hangs on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::client::{Etcd, no_such_lease};
use super::keys::Keys;
use super::load::load;
use super::{EtcdStore, Seat};
use crate::config::EtcdLocation;
use crate::core::State;
use crate::state::tenure::Renewal;
use crate::state::{StoreError, Tenure};

/// How long a leader that is gone keeps others waiting.
const LEASE: Duration = Duration::from_secs(12);

/// A scheduler that wants to lead.
pub struct Candidate {
    location: EtcdLocation,
    keys: Keys,
    /// Whole seconds.
    lasting: Duration,
    /// The leadership key's value.
    value: String,
    etcd: Option<Etcd>,
    /// The lease that we made last: revoked before there is another one.
    lease: Option<i64>,
    has_led: bool,
}

enum Outcome {
    Won(Etcd, Seat, Instant),
    /// By whom.
    Held(String),
}

impl Candidate {
    /// One for the framework `service`, who is known to others as `holder`.
    pub fn new(location: EtcdLocation, service: &str, holder: &str) -> Self {
        let keys = Keys::new(&location.prefix, service);
        let value = serde_json::json!({ "holder": holder }).to_string();
        Self { location, keys, lasting: LEASE, value, etcd: None, lease: None, has_led: false }
    }

    /// With a lease of other length than usual.
    #[cfg(test)]
    pub fn lasting(self, lasting: Duration) -> Self {
        Self { lasting, ..self }
    }

    /// Campaigns until we lead, and reads what is stored. When we have led before, it is an error that another one
    /// does now: two schedulers that take turns would hide that there are two.
    pub async fn open(
        &mut self,
        waiting: impl Fn(&str) + Send,
    ) -> Result<(EtcdStore, State, Tenure), StoreError> {
        let mut told = String::new();
        loop {
            let why = match self.attempt().await {
                Ok(Outcome::Won(etcd, seat, since)) => match self.take_office(etcd, seat, since).await {
                    Ok(opened) => return Ok(opened),
                    Err(error) => self.unless_for_good(error).await?,
                },
                Ok(Outcome::Held(leader)) if self.has_led => return Err(StoreError::Superseded { leader }),
                Ok(Outcome::Held(leader)) => format!("{leader} leads"),
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
            error => Ok(error.to_string()),
        }
    }

    async fn attempt(&mut self) -> Result<Outcome, StoreError> {
        let etcd = match &self.etcd {
            Some(etcd) => etcd.clone(),
            None => self.etcd.insert(Etcd::connect(&self.location).await?).clone(),
        };
        self.revoke(&etcd).await?;
        let mut client = etcd.client.clone();
        let answer = etcd.bounded(client.get(self.keys.leader(), None)).await?;
        if let Some(pair) = answer.kvs().first() {
            return Ok(Outcome::Held(holder(pair.value())));
        }
        // From here on the lease may run.
        let since = Instant::now();
        let seconds = i64::try_from(self.lasting.as_secs()).unwrap_or(i64::MAX);
        let lease = etcd.bounded(client.lease_grant(seconds, None)).await?.id();
        self.lease = Some(lease);
        let key = self.keys.leader();
        let put = TxnOp::put(key.clone(), self.value.clone(), Some(PutOptions::new().with_lease(lease)));
        let absent = Compare::create_revision(key, CompareOp::Equal, 0);
        let answer = etcd.bounded(client.txn(Txn::new().when([absent]).and_then([put]))).await?;
        if !answer.succeeded() {
            return Ok(Outcome::Held("another scheduler".to_owned()));
        }
        let created = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
        let seat = Seat { lease, value: self.value.clone(), created, modified: created };
        Ok(Outcome::Won(etcd, seat, since))
    }

    async fn take_office(
        &mut self,
        etcd: Etcd,
        seat: Seat,
        since: Instant,
    ) -> Result<(EtcdStore, State, Tenure), StoreError> {
        let (tenure, renewal) = Tenure::until(since + certain(self.lasting));
        let renewal = Arc::new(renewal);
        let mut keeper = JoinSet::new();
        keeper.spawn(keep(etcd.clone(), seat.lease, Arc::clone(&renewal), self.lasting));
        let loaded = load(&etcd, &self.keys).await?;
        self.has_led = true;
        info!(etcd = %self.location, "this scheduler leads");
        let store = EtcdStore {
            etcd,
            keys: self.keys.clone(),
            seat,
            written: loaded.written,
            has_schema: loaded.has_schema,
            tenure: tenure.clone(),
            renewal,
            keeper,
        };
        Ok((store, loaded.state, tenure))
    }

    /// Ends our lease, and with it our leadership.
    async fn revoke(&mut self, etcd: &Etcd) -> Result<(), StoreError> {
        let Some(lease) = self.lease else { return Ok(()) };
        let mut client = etcd.client.clone();
        let revoke = async {
            match client.lease_revoke(lease).await {
                Err(error) if !no_such_lease(&error) => Err(error),
                _ => Ok(()),
            }
        };
        etcd.bounded(revoke).await?;
        self.lease = None;
        Ok(())
    }

    /// Leads no more. When etcd is away the lease ends by itself.
    pub async fn resign(&mut self) {
        if let Some(etcd) = self.etcd.clone()
            && let Err(error) = self.revoke(&etcd).await
        {
            warn!("the lease ends by itself: {error}");
        }
    }
}

/// For how long after a renewal was asked for leadership is certain: less than the lease lasts, so that nothing of
/// ours is on its way any more when another one leads.
fn certain(lasting: Duration) -> Duration {
    lasting.mul_f64(0.9)
}

/// Renews the lease until it is lost. What counts is when a renewal was asked for: etcd's count begins later.
async fn keep(etcd: Etcd, lease: i64, renewal: Arc<Renewal>, lasting: Duration) {
    while !renewal.is_over() {
        sleep(lasting / 4).await;
        let asked = Instant::now();
        let mut client = etcd.client.clone();
        match timeout(lasting.mul_f64(0.4), Box::pin(client.lease_keep_alive(lease))).await {
            Ok(Ok(_)) => renewal.extend(asked + certain(lasting)),
            Ok(Err(error)) if no_such_lease(&error) => {
                warn!("the lease is lost");
                renewal.end();
            }
            Ok(Err(error)) => warn!("cannot renew the lease: {error}"),
            Err(_) => warn!("cannot renew the lease: no answer"),
        }
    }
}

fn holder(value: &[u8]) -> String {
    let parsed: Option<serde_json::Value> = serde_json::from_slice(value).ok();
    let holder = parsed.as_ref().and_then(|value| value["holder"].as_str());
    holder.unwrap_or("another scheduler").to_owned()
}
