//! Identifiers: conversions from text and display.

use std::fmt;

use crate::{AgentId, ContainerId, ExecutorId, FrameworkId, OfferId, TaskId};

macro_rules! text_id {
    ($($id:ident { $($rest:tt)* })+) => {$(
        impl From<String> for $id {
            fn from(value: String) -> Self {
                Self { value $($rest)* }
            }
        }

        impl From<&str> for $id {
            fn from(value: &str) -> Self {
                Self::from(value.to_owned())
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.value)
            }
        }
    )+};
}

text_id! {
    AgentId {}
    ContainerId { , parent: None }
    ExecutorId {}
    FrameworkId {}
    OfferId {}
    TaskId {}
}
