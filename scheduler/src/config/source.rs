//! Where a file of the hosts comes from: from there, from a server, or from DC/OS' secrets.

use std::path::PathBuf;

use super::Artifact;

/// A file that the installer finds on the host, or is brought to its sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileSource {
    /// It is on the agents already, and used where it is.
    Host {
        /// Where.
        path: PathBuf,
        /// The SHA-256 that it must have, in lower-case hexadecimal, where the operator says it.
        sha256: Option<String>,
    },
    /// It is fetched.
    Uri(Artifact),
    /// It is a secret of DC/OS, which the agent resolves: never a part of what we send.
    Secret {
        /// Its name.
        name: String,
        /// As above.
        sha256: Option<String>,
    },
}

impl FileSource {
    /// `/path[#sha256=HEX]`, `secret:NAME[#sha256=HEX]` or `URI#sha256=HEX`.
    pub(super) fn parse(value: &str) -> Result<Self, String> {
        let wrong = || {
            "must be /path on the agents, secret:NAME of DC/OS, each with #sha256=HEX where its content matters, or \
             URI#sha256=HEX"
                .to_owned()
        };
        let is_host = value.starts_with('/');
        let Some(rest) = value.strip_prefix("secret:").or(is_host.then_some(value)) else {
            return Artifact::parse(value).map(Self::Uri).map_err(|_| wrong());
        };
        let (place, sha256) = match rest.split_once("#sha256=") {
            None => (rest, None),
            Some((place, hash)) if hash.len() == 64 && hash.chars().all(|c| c.is_ascii_hexdigit()) => {
                (place, Some(hash.to_lowercase()))
            }
            Some(_) => return Err(wrong()),
        };
        if is_host {
            return Ok(Self::Host { path: place.into(), sha256 });
        }
        let name = place.trim_start_matches('/');
        let fine = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if name.is_empty() || !name.chars().all(fine) {
            return Err(wrong());
        }
        Ok(Self::Secret { name: name.to_owned(), sha256 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_on_the_host_or_comes_from_elsewhere() {
        let hash = "ab".repeat(32);
        let pinned = |place: &str| format!("{place}#sha256={}", hash.to_uppercase());
        let host = |sha256| FileSource::Host { path: "/etc/ca.pem".into(), sha256 };
        let secret = |sha256| FileSource::Secret { name: "calico/key".into(), sha256 };
        let artifact = Artifact { uri: "https://h/ca.pem".into(), sha256: hash.clone() };
        for (text, expected) in [
            ("/etc/ca.pem".to_owned(), host(None)),
            (pinned("/etc/ca.pem"), host(Some(hash.clone()))),
            ("secret:/calico/key".to_owned(), secret(None)),
            (pinned("secret:calico/key"), secret(Some(hash.clone()))),
            (pinned("https://h/ca.pem"), FileSource::Uri(artifact)),
        ] {
            assert_eq!(FileSource::parse(&text), Ok(expected), "{text}");
        }
        for text in ["", "ca.pem", "https://h/ca.pem", "secret:", "secret:a b", "/a#sha256=12", "-----BEGIN"]
        {
            let problem = FileSource::parse(text).unwrap_err();
            assert!(problem.starts_with("must be /path on the agents"), "{text}: {problem}");
        }
    }
}
