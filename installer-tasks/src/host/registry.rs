//! What registries are logged in to with: read when an image is pulled, and never shown.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::files::{self, FileError};
use crate::exit::{Failure, Result};
use crate::values::PinnedFile;

/// Docker's own registry, as config.json calls it.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// The same in an image's name.
const DOCKER_HUB_HOST: &str = "docker.io";

/// A user and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login {{ user: {:?}, password: (not shown) }}", self.user)
    }
}

/// What a file of credentials holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// One login for the registry that images are pulled from, whichever that is.
    One(Login),
    /// By registry: `HOST[:PORT]`, or [`DOCKER_HUB`].
    ByRegistry(BTreeMap<String, Login>),
}

#[derive(Deserialize)]
struct ConfigJson {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
    #[serde(rename = "credHelpers", default)]
    helpers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(rename = "auth")]
    encoded: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Credentials {
    /// Reads a file: `user:password`, or a config.json of Docker's. One of the sandbox is its owner's alone from then on.
    pub fn read(file: &PinnedFile) -> Result<Self> {
        let PinnedFile { path, sha256 } = file;
        if path.is_relative() {
            fs::set_permissions(path, Permissions::from_mode(0o600))
                .map_err(FileError::io("set the mode of", path))?;
        }
        let content = fs::read(path).map_err(FileError::io("read", path))?;
        let actual = files::sha256_hex(&content);
        let wrong = |why: &str| {
            Failure::unsuitable(format!("--registry-credentials {} cannot be used: {why}", path.display()))
        };
        if sha256.as_ref().is_some_and(|wanted| *wanted != actual) {
            return Err(wrong("it has another SHA-256 than is configured"));
        }
        let text = String::from_utf8(content).map_err(|_| wrong("it is no text"))?;
        Self::parse(&text).map_err(wrong)
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if !text.starts_with('{') {
            return login(text)
                .map(Self::One)
                .ok_or("it must be user:password, or a config.json of Docker's");
        }
        // What a parser says may quote what it holds.
        let ConfigJson { auths, store, helpers } =
            serde_json::from_str(text).map_err(|_| "it is not a config.json as Docker writes it")?;
        let mut logins = BTreeMap::new();
        for (registry, auth) in auths {
            let found = match auth {
                Auth { username: Some(user), password: Some(password), .. } => Some(Login { user, password }),
                Auth { encoded: Some(auth), .. } => {
                    let decoded = BASE64_STANDARD.decode(auth.trim()).ok();
                    decoded.and_then(|bytes| String::from_utf8(bytes).ok()).as_deref().and_then(login)
                }
                _ => None,
            };
            let found = found.ok_or("an entry of its auths has neither auth nor username and password")?;
            logins.insert(host_of(&registry).to_owned(), found);
        }
        if logins.is_empty() && (store.is_some() || !helpers.is_empty()) {
            return Err(
                "it names a program that knows the credentials (credsStore, credHelpers), and has none itself",
            );
        }
        Ok(Self::ByRegistry(logins))
    }

    /// The login of a registry, and the address that Docker is told with it; `registry` is as [`registry_of`] gives it.
    pub fn login(&self, registry: &str) -> Option<(Login, String)> {
        let login = match self {
            Self::One(login) => login,
            Self::ByRegistry(logins) => logins.get(registry)?,
        };
        let address = if registry == DOCKER_HUB_HOST { DOCKER_HUB } else { registry };
        Some((login.clone(), address.to_owned()))
    }
}

/// `user:password`, both there.
fn login(text: &str) -> Option<Login> {
    let (user, password) = text.split_once(':')?;
    let one_line = !text.contains(['\n', '\r']);
    (one_line && !user.is_empty() && !password.is_empty())
        .then(|| Login { user: user.to_owned(), password: password.to_owned() })
}

/// The registry of an entry of config.json, whose keys may be URLs.
fn host_of(key: &str) -> &str {
    if key == DOCKER_HUB {
        return DOCKER_HUB_HOST;
    }
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or(rest);
    if host == "index.docker.io" { DOCKER_HUB_HOST } else { host }
}

/// The registry that an image is pulled from.
pub fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((registry, _)) if registry.contains(['.', ':']) || registry == "localhost" => registry,
        _ => DOCKER_HUB_HOST,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(user: &str, password: &str) -> Login {
        Login { user: user.into(), password: password.into() }
    }

    #[test]
    fn one_line_is_for_the_registry_that_is_pulled_from() {
        let credentials = Credentials::parse("me:s3cr:et\n").unwrap();
        assert_eq!(credentials.login("r:5000"), Some((named("me", "s3cr:et"), "r:5000".into())));
        assert_eq!(credentials.login("docker.io").unwrap().1, DOCKER_HUB);
    }

    #[test]
    fn a_config_json_has_a_login_for_each_registry() {
        let text = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "bWU6cHc="},
            "https://r.example:5000/v2/": {"username": "you", "password": "pw2"},
            "quay.io": {"auth": "YTpi"}
        }, "HttpHeaders": {}}"#;
        let credentials = Credentials::parse(text).unwrap();
        for (image, expected) in [
            ("calico/node:v3", Some((named("me", "pw"), DOCKER_HUB))),
            ("docker.io/calico/node:v3", Some((named("me", "pw"), DOCKER_HUB))),
            ("r.example:5000/calico/node:v3", Some((named("you", "pw2"), "r.example:5000"))),
            ("quay.io/calico/node@sha256:00", Some((named("a", "b"), "quay.io"))),
            ("other:5000/calico/node", None),
        ] {
            let expected = expected.map(|(login, address)| (login, address.to_owned()));
            assert_eq!(credentials.login(registry_of(image)), expected, "{image}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_told_without_what_it_holds() {
        for (text, words) in [
            ("s3cret", "must be user:password"),
            (":s3cret", "must be user:password"),
            ("me:s3cret\nyou:s3cret", "must be user:password"),
            ("{s3cret", "not a config.json"),
            (r#"{"auths": {"r": {"auth": "s3cret!"}}}"#, "neither auth"),
            (r#"{"auths": {"r": {}}}"#, "neither auth"),
            (r#"{"credsStore": "desktop"}"#, "names a program"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("credentials");
            fs::write(&path, text).unwrap();
            let failure = Credentials::read(&PinnedFile { path: path.clone(), sha256: None }).unwrap_err();
            let line = failure.one_line();
            assert!(line.contains(words) && !line.contains("s3cret"), "{text}: {line}");
            let failure = Credentials::read(&PinnedFile { path, sha256: Some("0".repeat(64)) }).unwrap_err();
            assert!(failure.one_line().contains("another SHA-256"), "{failure}");
        }
        assert!(!format!("{:?}", Credentials::parse("me:s3cret")).contains("s3cret"));
    }

    proptest! {
        #[test]
        fn no_file_is_a_crash(text in ".{0,80}", user in "[a-z]{1,8}", password in "[!-~]{1,20}") {
            let _ = Credentials::parse(&text);
            let auth = BASE64_STANDARD.encode(format!("{user}:{password}"));
            let text = serde_json::json!({"auths": {"https://r:5000": {"auth": auth}}}).to_string();
            let found = Credentials::parse(&text).unwrap().login("r:5000").unwrap().0;
            prop_assert_eq!((found.user, found.password), (user, password));
        }
    }
}
