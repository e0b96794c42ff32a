//! This host's name in Calico.

use crate::exit::{Failure, Result};

/// The name that was given, else the lower-case host name, as calico/node takes it itself.
pub fn node_name(given: Option<&str>) -> Result<String> {
    let name = match given {
        Some(name) => name.to_owned(),
        None => rustix::system::uname().nodename().to_string_lossy().trim().to_lowercase(),
    };
    let valid = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c));
    if valid {
        return Ok(name);
    }
    Err(Failure::unsuitable(format!(
        "{name:?} cannot be this host's name in Calico: give one of lower-case letters, digits, '-', '.' and '_' \
         as --node-name"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_name_is_taken_as_it_is_or_refused() {
        assert_eq!(node_name(Some("host-1.example")).unwrap(), "host-1.example");
        for name in ["", "Host", "a b", "a/b"] {
            assert!(node_name(Some(name)).unwrap_err().to_string().contains("--node-name"), "{name}");
        }
    }
}
