//! Why there is no subscription, for people: what happened, what is kept, and what to do.

use std::time::Duration;

use http::StatusCode;
use mesos_v1::http::HttpError;
use mesos_v1::recordio::RecordError;

use super::access::AccessError;
use super::client::REDIRECTS;
use crate::config::Server;

/// What it means that there is none.
const MEANWHILE: &str =
    "Tasks go on running and state is kept; nothing is launched or ended before there is a subscription";
const NAME_MASTERS: &str = "mesos.master must name Mesos masters, or the ZooKeeper that knows them";

/// Why a subscription failed or ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SubscriptionError {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("{server} answered {status}: {body}{advice}")]
    Refused { server: Server, status: StatusCode, body: String, advice: String },
    #[error("the master takes this framework for invalid: {0}")]
    Invalid(String),
    #[error("the master cannot say whether we may subscribe: {0}")]
    Passing(String),
    #[error("{server} redirects to '{location}', which is no address, or none with TLS")]
    Redirect { server: Server, location: String },
    #[error("there were more than {REDIRECTS} redirects")]
    Redirects,
    #[error("{0} gave no Mesos-Stream-Id")]
    NoStreamId(Server),
    #[error("the event stream broke: {0}")]
    Stream(#[from] RecordError),
    #[error("the master sent what is no event: {0}")]
    Decode(#[from] prost::DecodeError),
    #[error("the master has closed the event stream")]
    Closed,
    #[error("this scheduler no longer leads")]
    Deposed,
    #[error("no heartbeat for {0:?}")]
    Silent(Duration),
    #[error("the master did not take a call")]
    Undelivered,
    #[error("another master leads")]
    OtherLeader,
}

impl SubscriptionError {
    /// All of it, for the log and for `/v1/health`.
    pub fn for_people(&self) -> String {
        match self.advice() {
            Some(advice) => format!("{self}. {MEANWHILE}. It is tried again. {advice}"),
            None => format!("{self}. {MEANWHILE}. It is tried again"),
        }
    }

    /// Whether the next master will most likely say the same, at some cost for it.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::Stream(RecordError::TooLong { .. }))
    }

    fn advice(&self) -> Option<String> {
        match self {
            Self::Access(AccessError::Http(
                HttpError::Connect { .. } | HttpError::Timeout { .. } | HttpError::Connection { .. },
            )) => Some(format!("{NAME_MASTERS}, and this host must reach them")),
            Self::Refused { status, .. }
                if !matches!(
                    *status,
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::SERVICE_UNAVAILABLE
                ) =>
            {
                Some(format!("If that is no master: {NAME_MASTERS}"))
            }
            Self::Redirect { .. } | Self::Redirects | Self::NoStreamId(_) => Some(NAME_MASTERS.to_owned()),
            Self::Stream(RecordError::MalformedLength { .. }) | Self::Decode(_) => {
                Some(format!("If that is no master: {NAME_MASTERS}"))
            }
            Self::Stream(RecordError::TooLong { .. }) => Some(
                "Mesos puts the offers of all agents into one event: have the agents say less (attributes, ranges of \
                 ports, reservations), or take the offers of fewer roles (service.role)"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// Why no master can be named, for people.
pub(super) fn no_master(why: &str) -> String {
    format!("{why} (mesos.master). {MEANWHILE}. It is looked for all the time")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn each_trouble_says_what_happened_what_is_kept_and_what_to_do() {
        let server = Server { tls: false, authority: "m:1".to_owned() };
        let refused = |status, body: &str| SubscriptionError::Refused {
            server: server.clone(),
            status,
            body: body.to_owned(),
            advice: "; who are you".to_owned(),
        };
        let refused_connection = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let connect = HttpError::Connect { authority: "m:1".to_owned(), source: refused_connection() };
        let long = RecordError::TooLong { length: 300_000_000, limit: 268_435_456 };
        for (error, happened, to_do) in [
            (AccessError::from(connect).into(), "cannot connect to m:1: connection refused", "mesos.master"),
            (
                refused(StatusCode::NOT_FOUND, "<html>"),
                "http://m:1 answered 404 Not Found: <html>",
                "mesos.master",
            ),
            (
                refused(StatusCode::UNAUTHORIZED, "no"),
                "answered 401 Unauthorized: no; who are you",
                "tried again",
            ),
            (SubscriptionError::NoStreamId(server.clone()), "gave no Mesos-Stream-Id", "mesos.master"),
            (long.into(), "record of 300000000 bytes is longer than the limit of 268435456", "service.role"),
        ] {
            let error: SubscriptionError = error;
            let said = error.for_people();
            for part in [happened, "Tasks go on running and state is kept", to_do] {
                assert!(said.contains(part), "'{part}' is not in: {said}");
            }
        }
    }
}
