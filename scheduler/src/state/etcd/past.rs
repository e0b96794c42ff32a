//! Whether etcd is still what it was: one that was restored from an older snapshot has forgotten what we stored, and
//! maybe told others.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::kv::Header;

/// What etcd has told so far. Clones are of the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Past(Arc<Mutex<Seen>>);

/// What it had told at some moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// None before its first answer.
    cluster: Option<u64>,
    revision: i64,
    /// The leadership key's last modification by us; 0 while we do not lead.
    written: i64,
    /// Whether it was found not to be what it was.
    restored: bool,
}

impl Seen {
    /// Of another etcd than before.
    fn anew(header: Header) -> Self {
        Self { cluster: Some(header.cluster), revision: header.revision, written: 0, restored: true }
    }
}

impl Past {
    fn now(&self) -> MutexGuard<'_, Seen> {
        // Nothing is ever half done in it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known before a question is asked: answers may overtake each other.
    pub fn seen(&self) -> Seen {
        *self.now()
    }

    /// Our last write of the leadership key; 0 when we no longer lead.
    pub fn wrote(&self, revision: i64) {
        self.now().written = revision;
    }

    /// Whether it was found not to be what it was, since this was last asked.
    pub fn take_restored(&self) -> bool {
        std::mem::take(&mut self.now().restored)
    }

    /// Takes an answer's header. The error is what shows that etcd is not what it was. Only for answers that a
    /// majority of the members agreed to: others may be old.
    pub fn check(&self, before: Seen, header: Header) -> Result<(), String> {
        let mut now = self.now();
        match before.cluster {
            Some(cluster) if cluster != header.cluster => {
                *now = Seen::anew(header);
                return Err(format!("its cluster ID was {cluster:x}, and is {:x}", header.cluster));
            }
            Some(_) if header.revision < before.revision => {
                *now = Seen::anew(header);
                return Err(format!("its revision was {}, and is {}", before.revision, header.revision));
            }
            _ => {}
        }
        now.cluster = Some(header.cluster);
        now.revision = now.revision.max(header.revision);
        Ok(())
    }

    /// As [`Self::check`], for an answer that also tells of the leadership key, which is ours: when it was last
    /// modified.
    pub fn check_seat(&self, before: Seen, header: Header, modified: i64) -> Result<(), String> {
        self.check(before, header)?;
        if modified < before.written {
            // Whatever its revision, which may have been raised at will.
            *self.now() = Seen::anew(header);
            return Err(format!(
                "our last write was of revision {}, and the last one that it knows is of {modified}",
                before.written
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(cluster: u64, revision: i64) -> Header {
        Header { cluster, revision }
    }

    #[test]
    fn what_goes_back_is_found_and_what_overtakes_is_not() {
        let past = Past::default();
        let none = past.seen();
        past.check(none, header(1, 10)).unwrap();
        let asked = past.seen();
        past.check(past.seen(), header(1, 12)).unwrap();
        past.check(asked, header(1, 11)).unwrap();
        assert_eq!(past.seen().revision, 12);
        let error = past.check(past.seen(), header(1, 11)).unwrap_err();
        assert!(error.contains("12") && error.contains("11"), "{error}");
        // It is told once.
        past.check(past.seen(), header(1, 11)).unwrap();
        past.check(past.seen(), header(2, 50)).unwrap_err();
        past.check(past.seen(), header(2, 50)).unwrap();
        past.wrote(49);
        past.check_seat(past.seen(), header(2, 60), 50).unwrap();
        assert!(past.take_restored() && !past.take_restored());
        past.check_seat(past.seen(), header(2, 1_000_060), 48).unwrap_err();
        assert!(past.take_restored());
    }
}
