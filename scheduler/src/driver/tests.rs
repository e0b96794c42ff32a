//! The loop, when its tenure ends in the middle of what it does.

use std::time::Duration;

use mesos_v1::scheduler::call;
use tokio::time::timeout;

use crate::core::{State, StateChange};
use crate::link::{self, Loop};
use crate::state::{Moment, Store, StoreError, Tenure};

const SOON: Duration = Duration::from_secs(30);

/// Takes everything.
struct Any;

impl Store for Any {
    async fn commit(&mut self, _: &[StateChange]) -> Result<(), StoreError> {
        Ok(())
    }
}

async fn next(running: &mut Loop, kind: call::Type) {
    let wanted = async { while running.calls.recv().await.unwrap().r#type() != kind {} };
    timeout(SOON, wanted).await.unwrap_or_else(|_| panic!("no {kind:?} comes"));
}

#[tokio::test]
async fn what_is_still_to_be_done_when_the_tenure_ends_is_not_done() {
    let agents = link::agents(8);
    let (tenure, renewal) = Tenure::until(Moment::now().after(Duration::from_mins(1)));
    let takes = Duration::from_millis(400);
    let mut running = link::start((Any, State::default(), tenure), agents.clone(), takes).await;
    next(&mut running, call::Type::Revive).await;
    running.offer(&agents).await;
    next(&mut running, call::Type::Accept).await;
    renewal.end();
    let mut more = 0;
    let until_it_ends = async {
        while let Some(call) = running.calls.recv().await {
            more += usize::from(call.r#type() == call::Type::Accept);
        }
    };
    timeout(SOON, until_it_ends).await.expect("the loop goes on");
    // One was on its way.
    assert!(more <= 1, "{more} of 7 launches were sent after the tenure had ended");
}
