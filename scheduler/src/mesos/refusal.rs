//! Why a master refuses us for good: what happened, what is kept, and what to do.

/// A refusal that asking again does not mend. Each has the master's own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The framework is no more.
    #[error(
        "this framework was removed, as the master says: '{0}'. That is done by a teardown, or when no scheduler was \
         connected for the failover timeout. Mesos has ended its tasks, and does not take its ID again; the stored \
         state and what is installed on the hosts are left as they are. To install it anew, give service.state \
         another path or prefix and start again: what is on the hosts is found, and kept"
    )]
    Removed(String),
    /// Another scheduler has our framework ID.
    #[error(
        "another scheduler has subscribed as this framework, as the master says: '{0}'. The tasks go on running, and \
         belong to that one now; state is kept. Run one scheduler a service: several are safe where service.state is \
         the same etcd, for then one leads and the others wait"
    )]
    FailedOver(String),
    /// The master's ACLs are against it.
    #[error(
        "the master does not permit this framework: '{0}'. State is kept, tasks go on running. Permit the roles of \
         service.role to our principal (the master's ACLs: register_frameworks), or change service.role or the \
         principal, and start again"
    )]
    NotPermitted(String),
    /// The principal is another one than at the first registration, or than the one that was authenticated.
    #[error(
        "the master does not take this principal for this framework: '{0}'. A framework keeps the principal of its \
         first registration. State is kept, tasks go on running. Start with that principal again (service.principal, \
         or the uid of the service account), or give service.state another path or prefix to install under the new one"
    )]
    Principal(String),
    /// Anything else, most likely an option that the master does not take.
    #[error(
        "the master refuses this framework: '{0}'. State is kept, tasks go on running. Correct the options that it is \
         about, most likely service.*, and start again"
    )]
    Other(String),
}

impl Refusal {
    /// What the message of an ERROR event, or of an answer to SUBSCRIBE, means (Mesos 1.11, `src/master/master.cpp` and
    /// `src/master/validation.cpp`).
    pub fn of(message: &str) -> Self {
        let words = message.to_owned();
        if message.contains("Framework has been removed") {
            Self::Removed(words)
        } else if message.contains("Framework failed over") {
            Self::FailedOver(words)
        } else if message.contains("Not authorized to") {
            Self::NotPermitted(words)
        } else if message.contains("principal") {
            Self::Principal(words)
        } else {
            Self::Other(words)
        }
    }

    /// Whether the master may well think otherwise when it is asked again: its authorizer could not be asked.
    pub fn is_passing(message: &str) -> bool {
        message.starts_with("Authorization failure")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masters_words_are_told_apart_and_kept() {
        type Of = fn(String) -> Refusal;
        let cases: [(&str, Of); 6] = [
            ("Framework has been removed", Refusal::Removed),
            ("Framework failed over", Refusal::FailedOver),
            ("Not authorized to use role 'a'", Refusal::NotPermitted),
            ("Changing framework's principal is not allowed.", Refusal::Principal),
            ("Framework principal 'a' does not match authenticated principal 'b'", Refusal::Principal),
            ("The framework failover_timeout (-1) is invalid", Refusal::Other),
        ];
        for (words, of) in cases {
            let refusal = Refusal::of(words);
            assert_eq!(refusal, of(words.to_owned()));
            assert!(refusal.to_string().contains(&format!("'{words}'")), "{refusal}");
            assert!(!Refusal::is_passing(words));
        }
        assert!(Refusal::is_passing("Authorization failure: the authorizer is away"));
    }
}
