//! Our credentials as a header: HTTP basic, or the token of a DC/OS service account, which is got by logging in.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::Full;
use mesos_v1::http::HttpError;
use ring::rand::SystemRandom;
use ring::signature::RSA_PKCS1_SHA256;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::access::Dialer;
use crate::config::{Account, Identity};

const ANSWER: Duration = Duration::from_secs(10);
/// Until when a login that we sign may be used: clocks differ.
const LOGIN_VALID: Duration = Duration::from_mins(5);
/// How long a token is used that does not say until when: DC/OS' default.
const TOKEN_VALID: Duration = Duration::from_hours(5 * 24);
/// A token is renewed so long before its end, or at half of its time when that is less.
const AHEAD: Duration = Duration::from_mins(10);
/// The least time between two logins: neither refusals nor an endpoint that is away make us ask at every request.
const DISTANCE: Duration = Duration::from_secs(5);

/// Why there are no credentials.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuthError {
    /// The login was not possible.
    #[error("service account '{uid}' cannot log in at {endpoint}: {reason}")]
    Login {
        /// The account.
        uid: String,
        /// Where it logs in.
        endpoint: String,
        /// What went wrong.
        reason: String,
    },
}

/// Makes headers of credentials. Clones share one token.
#[derive(Debug, Clone)]
pub(super) struct Auth(Arc<Method>);

#[derive(Debug)]
enum Method {
    Anonymous,
    Basic { principal: String, header: HeaderValue },
    Account(Box<Session>),
}

#[derive(Debug)]
struct Session {
    account: Account,
    dialer: Dialer,
    state: Mutex<Logins>,
}

#[derive(Debug, Default)]
struct Logins {
    token: Option<Token>,
    /// Why the last login failed, and when.
    failure: Option<AuthError>,
    last_failure: Option<Instant>,
    /// When a token was last renewed because it was refused.
    last_refusal: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Token {
    /// Sensitive: its `Debug` does not show it.
    header: HeaderValue,
    renew: Instant,
    end: Instant,
}

impl Auth {
    pub fn new(identity: &Identity, dialer: Dialer) -> Self {
        Self(Arc::new(match identity {
            Identity::Anonymous => Method::Anonymous,
            Identity::Basic { principal, secret } => {
                let text = BASE64_STANDARD.encode(format!("{principal}:{}", secret.expose()));
                Method::Basic { principal: principal.clone(), header: sensitive(&format!("Basic {text}")) }
            }
            Identity::Account(account) => {
                let session = Session { account: account.clone(), dialer, state: Mutex::default() };
                Method::Account(Box::new(session))
            }
        }))
    }

    /// The value of `Authorization`; none for nobody.
    pub async fn header(&self) -> Result<Option<HeaderValue>, AuthError> {
        match &*self.0 {
            Method::Anonymous => Ok(None),
            Method::Basic { header, .. } => Ok(Some(header.clone())),
            Method::Account(session) => session.header(None).await.map(Some),
        }
    }

    /// Another value than `refused`, which got a 401; none when there is no other to be had.
    pub async fn renew(&self, refused: &HeaderValue) -> Result<Option<HeaderValue>, AuthError> {
        match &*self.0 {
            Method::Anonymous | Method::Basic { .. } => Ok(None),
            Method::Account(session) => {
                let header = session.header(Some(refused)).await?;
                Ok((header != *refused).then_some(header))
            }
        }
    }

    /// What to do about a 401.
    pub fn unauthorized(&self) -> String {
        match &*self.0 {
            Method::Anonymous => {
                "credentials are wanted: give service.principal and service.secret-file, or \
                                  service.account-credential"
                    .to_owned()
            }
            Method::Basic { principal, .. } => format!(
                "not accepted as principal '{principal}': service.secret-file must hold the secret that the masters' \
                 credentials have for service.principal"
            ),
            Method::Account(session) => format!(
                "the token of service account '{}' is not accepted, nor was a new one: the account and its \
                 service.account-credential must be of this cluster",
                session.account.uid
            ),
        }
    }

    /// What to do about a 403.
    pub fn forbidden(&self) -> String {
        let principal = match &*self.0 {
            Method::Anonymous => {
                return "not permitted without a principal: permit it in the masters' ACLs, or give \
                        service.principal and service.secret-file, or service.account-credential"
                    .to_owned();
            }
            Method::Basic { principal, .. } => principal,
            Method::Account(session) => &session.account.uid,
        };
        format!("not permitted as principal '{principal}': permit it in the masters' ACLs")
    }
}

impl Session {
    /// The token's header; a new one when the one there is has reached its time, or was `refused`.
    async fn header(&self, refused: Option<&HeaderValue>) -> Result<HeaderValue, AuthError> {
        let mut state = self.state.lock().await;
        let now = Instant::now();
        let good = |token: &&Token| Some(&token.header) != refused && now < token.renew;
        if let Some(token) = state.token.as_ref().filter(good) {
            return Ok(token.header.clone());
        }
        let old = state.token.as_ref().filter(|token| now < token.end).map(|token| token.header.clone());
        let lately = |last: Option<Instant>| last.is_some_and(|last| now < last + DISTANCE);
        if let Some(failure) = state.failure.clone().filter(|_| lately(state.last_failure)) {
            return old.ok_or(failure);
        }
        if refused.is_some() {
            if let Some(old) = old.clone().filter(|_| lately(state.last_refusal)) {
                return Ok(old);
            }
            state.last_refusal = Some(now);
        }
        match self.login().await {
            Ok(token) => {
                info!(uid = self.account.uid, "logged in");
                let header = token.header.clone();
                (state.token, state.failure) = (Some(token), None);
                Ok(header)
            }
            Err(error) => {
                (state.failure, state.last_failure) = (Some(error.clone()), Some(Instant::now()));
                match old.filter(|old| Some(old) != refused) {
                    Some(old) => {
                        warn!("{error}; the token there is goes on being used");
                        Ok(old)
                    }
                    None => Err(error),
                }
            }
        }
    }

    /// Logs in: a token signed by us for one of DC/OS.
    async fn login(&self) -> Result<Token, AuthError> {
        #[derive(Deserialize)]
        struct Answer {
            token: String,
        }
        let account = &self.account;
        let expires = since_epoch() + LOGIN_VALID;
        let signed = sign(account, expires).ok_or_else(|| self.failed("its private key cannot sign"))?;
        let body = json!({"uid": account.uid, "token": signed}).to_string();
        let request = Request::post(&account.login_path)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.failed(&error.to_string()))?;
        let http = |error: HttpError| self.failed(&error.to_string());
        let mut connection = self.dialer.open(&account.login).await.map_err(http)?;
        let response = connection.send(request, ANSWER).await.map_err(http)?;
        let status = response.status;
        if status != StatusCode::OK {
            let advice = match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    ": the account must exist, and its public key must belong to the private_key of \
                     service.account-credential; clocks must agree"
                }
                _ => "",
            };
            return Err(self.failed(&format!("the answer is {status}{advice}")));
        }
        let body = timeout(ANSWER, response.bytes(64 * 1024)).await;
        let body = body.map_err(|_| self.failed("the answer does not end"))?.map_err(http)?;
        // The parser's message may quote the answer, which holds the token.
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|_| self.failed("the answer holds no token"))?;
        if answer.token.is_empty() || HeaderValue::from_str(&answer.token).is_err() {
            return Err(self.failed("the answer's token is none"));
        }
        let valid = expiry(&answer.token).map_or(TOKEN_VALID, |end| end.saturating_sub(since_epoch()));
        // Further away than any clock goes is as good as five days.
        let valid = valid.min(Duration::from_hours(365 * 24));
        let now = Instant::now();
        let renew = now + valid.saturating_sub(AHEAD).max(valid / 2);
        Ok(Token { header: sensitive(&format!("token={}", answer.token)), renew, end: now + valid })
    }

    fn failed(&self, reason: &str) -> AuthError {
        let Account { uid, login, login_path, .. } = &self.account;
        let endpoint = format!("{login}{login_path}");
        AuthError::Login { uid: uid.clone(), endpoint, reason: reason.to_owned() }
    }
}

/// The account's JWT (RFC 7519), signed by RS256; none when the key cannot sign.
fn sign(account: &Account, expires: Duration) -> Option<String> {
    let part = |json: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let claims = json!({"uid": account.uid, "exp": expires.as_secs()});
    let text = format!("{}.{}", part(json!({"alg": "RS256", "typ": "JWT"})), part(claims));
    let mut signature = vec![0; account.key.public().modulus_len()];
    account.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).ok()?;
    Some(format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
}

/// The claim `exp` of a token, since the epoch; none when it is no JWT or has none.
fn expiry(token: &str) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?.trim_end_matches('=')).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    Duration::try_from_secs_f64(claims.exp).ok()
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A header's value that no `Debug` shows. Base64 and checked tokens are always one.
fn sensitive(text: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}
