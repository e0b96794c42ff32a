//! What an offer holds, read when it matters: most offers are declined for what their agent is.

use std::fmt;

use bytes::Bytes;

use super::resources::Resource;

/// The resources of an offer.
#[derive(Clone)]
pub struct Resources(Form);

#[derive(Clone)]
enum Form {
    Read(Vec<Resource>),
    Sealed { bytes: Bytes, read: fn(&Bytes) -> Vec<Resource>, labelled: bool },
}

impl Resources {
    /// What `read` makes of `bytes`; a function of nothing else. `labelled`: whether a label of some reservation there may
    /// be [ours](super::RESERVATION_LABEL).
    pub fn sealed(bytes: Bytes, read: fn(&Bytes) -> Vec<Resource>, labelled: bool) -> Self {
        Self(Form::Sealed { bytes, read, labelled })
    }

    /// The resources.
    pub fn read(&self) -> Vec<Resource> {
        match &self.0 {
            Form::Read(resources) => resources.clone(),
            Form::Sealed { bytes, read, .. } => read(bytes),
        }
    }

    /// False when none of them is reserved by us for sure.
    pub(crate) fn may_be_ours(&self) -> bool {
        matches!(self.0, Form::Read(_) | Form::Sealed { labelled: true, .. })
    }
}

impl From<Vec<Resource>> for Resources {
    fn from(resources: Vec<Resource>) -> Self {
        Self(Form::Read(resources))
    }
}

impl PartialEq for Resources {
    fn eq(&self, other: &Self) -> bool {
        self.read() == other.read()
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read().fmt(f)
    }
}
