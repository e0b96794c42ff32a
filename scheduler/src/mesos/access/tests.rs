//! Against servers on loopback that take nothing but what is right.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

use super::*;
use crate::config::{Account, Identity, Secret, test_key};
use crate::state::Moment;

const LIMIT: Duration = Duration::from_secs(5);

fn plain(address: SocketAddr) -> Server {
    Server { tls: false, authority: address.to_string() }
}

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

/// A master that takes one value of `Authorization` alone, and says what it was sent.
async fn master(accepted: Arc<Mutex<String>>) -> SocketAddr {
    type Accepted = State<Arc<Mutex<String>>>;
    async fn check(State(accepted): Accepted, headers: HeaderMap, body: Bytes) -> (StatusCode, Bytes) {
        let given = headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
        match given.as_deref() {
            Some(given) if given == *accepted.lock().unwrap() => (StatusCode::ACCEPTED, body),
            _ => (StatusCode::UNAUTHORIZED, Bytes::from_static(b"who are you")),
        }
    }
    serve(Router::new().route("/api", post(check).get(check)).with_state(accepted)).await
}

/// A login that checks signature and claims, and gives out the tokens `t1`, `t2`, … ; `accepted` is the last.
struct Login {
    accepted: Arc<Mutex<String>>,
    logins: AtomicUsize,
    /// The lifetime of tokens, in seconds; none: they are no JWT.
    lifetime: Option<u64>,
    away: std::sync::atomic::AtomicBool,
}

impl Login {
    fn new(lifetime: Option<u64>) -> Arc<Self> {
        let accepted = Arc::default();
        Arc::new(Self { accepted, logins: AtomicUsize::new(0), lifetime, away: false.into() })
    }

    fn count(&self) -> usize {
        self.logins.load(Ordering::Relaxed)
    }

    async fn serve(self: &Arc<Self>) -> SocketAddr {
        serve(Router::new().route("/acs/api/v1/auth/login", post(login)).with_state(Arc::clone(self))).await
    }
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

async fn login(State(this): State<Arc<Login>>, body: Bytes) -> Result<String, StatusCode> {
    this.logins.fetch_add(1, Ordering::Relaxed);
    if this.away.load(Ordering::Relaxed) {
        return Err(StatusCode::BAD_GATEWAY);
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body.as_object().unwrap().len(), 2);
    assert_eq!(body["uid"], "calico");
    let token = body["token"].as_str().unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).unwrap();
    let key = test_key();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, ring::signature::KeyPair::public_key(&key))
        .verify(signed.as_bytes(), &decode(signature))
        .map_err(|_| StatusCode::UNAUTHORIZED)?;
    let (header, claims) = signed.split_once('.').unwrap();
    let json = |text: &str| serde_json::from_slice::<Value>(&decode(text)).unwrap();
    assert_eq!(json(header), json!({"alg": "RS256", "typ": "JWT"}));
    assert_eq!(json(claims)["uid"], "calico");
    assert!((now()..now() + 600).contains(&json(claims)["exp"].as_u64().unwrap()));
    let number = this.logins.load(Ordering::Relaxed);
    let token = match this.lifetime {
        None => format!("t{number}"),
        Some(lifetime) => {
            let claims = json!({"exp": now() + lifetime, "number": number}).to_string();
            format!("x.{}.y", BASE64_URL_SAFE_NO_PAD.encode(claims))
        }
    };
    *this.accepted.lock().unwrap() = format!("token={token}");
    Ok(json!({"token": token}).to_string())
}

fn account(login: Server) -> Identity {
    let login_path = "/acs/api/v1/auth/login".to_owned();
    Identity::Account(Account { uid: "calico".to_owned(), key: Arc::new(test_key()), login, login_path })
}

async fn ask(access: &Access, server: &Server) -> StatusCode {
    let sent = access.post(server, None, "/api", HeaderMap::new(), "call", LIMIT).await;
    let (_, response) = sent.unwrap();
    let status = response.status;
    if status == StatusCode::ACCEPTED {
        assert_eq!(response.bytes(10).await.unwrap(), "call");
    }
    status
}

#[tokio::test]
async fn basic_sends_principal_and_secret() {
    let expected = format!("Basic {}", BASE64_STANDARD.encode("calico:hu:sh"));
    let server = plain(master(Arc::new(Mutex::new(expected))).await);
    let identity =
        |secret: &str| Identity::Basic { principal: "calico".to_owned(), secret: Secret::new(secret) };
    let right = Access::new(&identity("hu:sh"), &[]).unwrap();
    assert_eq!(ask(&right, &server).await, StatusCode::ACCEPTED);
    assert_eq!(right.get(&server, "/api", LIMIT).await.unwrap().status, StatusCode::ACCEPTED);
    let wrong = Access::new(&identity("sesame"), &[]).unwrap();
    assert_eq!(ask(&wrong, &server).await, StatusCode::UNAUTHORIZED);
    let advice = wrong.advice(StatusCode::UNAUTHORIZED);
    assert!(advice.contains("principal 'calico'") && advice.contains("service.secret-file"), "{advice}");
    assert!(wrong.advice(StatusCode::FORBIDDEN).contains("not permitted as principal 'calico'"));
    assert_eq!(wrong.advice(StatusCode::CONFLICT), "");
    let shown = format!("{wrong:?}");
    assert!(
        !shown.contains("sesame") && !shown.contains(&BASE64_STANDARD.encode("calico:sesame")),
        "{shown}"
    );
    let nobody = Access::new(&Identity::Anonymous, &[]).unwrap();
    assert_eq!(ask(&nobody, &server).await, StatusCode::UNAUTHORIZED);
    assert!(nobody.advice(StatusCode::UNAUTHORIZED).contains("service.principal"));
}

#[tokio::test]
async fn a_token_is_used_again_and_renewed_when_it_is_refused() {
    let login = Login::new(None);
    let server = plain(master(Arc::clone(&login.accepted)).await);
    let access = Access::new(&account(plain(login.serve().await)), &[]).unwrap();
    for _ in 0..3 {
        assert_eq!(ask(&access, &server).await, StatusCode::ACCEPTED);
    }
    assert_eq!(login.count(), 1);
    // Revoked: one login more, and the request is answered.
    *login.accepted.lock().unwrap() = "token=none".to_owned();
    let many = futures::future::join_all((0..8).map(|_| ask(&access, &server)));
    assert_eq!(many.await, [StatusCode::ACCEPTED; 8]);
    assert_eq!(login.count(), 2);
    // Refused whatever it is: no login for each request.
    *login.accepted.lock().unwrap() = "token=none".to_owned();
    for _ in 0..3 {
        assert_eq!(ask(&access, &server).await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(login.count(), 2);
    assert!(!format!("{access:?}").contains("t2"));
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_serves_on_while_the_login_is_away() {
    let login = Login::new(Some(4));
    let server = plain(master(Arc::clone(&login.accepted)).await);
    let access = Access::new(&account(plain(login.serve().await)), &[]).unwrap();
    assert_eq!(ask(&access, &server).await, StatusCode::ACCEPTED);
    // Past half of its time.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    login.away.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        assert_eq!(ask(&access, &server).await, StatusCode::ACCEPTED);
    }
    assert_eq!(login.count(), 2);
    // Past its end.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let error = access.post(&server, None, "/api", HeaderMap::new(), "", LIMIT).await.unwrap_err();
    let error = error.to_string();
    assert!(error.contains("service account 'calico' cannot log in at http://127.0.0.1:"), "{error}");
    assert!(error.contains("502"), "{error}");
}

#[tokio::test]
async fn a_login_that_is_refused_says_so_and_is_not_asked_at_each_request() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let refuse = async move || {
        count.fetch_add(1, Ordering::Relaxed);
        StatusCode::UNAUTHORIZED
    };
    let address = serve(Router::new().route("/acs/api/v1/auth/login", post(refuse))).await;
    let access = Access::new(&account(plain(address)), &[]).unwrap();
    for _ in 0..3 {
        let error = access.get(&plain(address), "/", LIMIT).await.unwrap_err().to_string();
        assert!(error.contains("401") && error.contains("service.account-credential"), "{error}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

/// A listener that speaks TLS.
struct Tls {
    listener: TcpListener,
    acceptor: tokio_rustls::TlsAcceptor,
}

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.listener.accept().await.unwrap();
            // A client that does not trust us breaks off.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A server with a certificate for 127.0.0.1 of an authority of its own, and that authority.
async fn tls_server(router: Router) -> (Server, CertificateDer<'static>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move { axum::serve(Tls { listener, acceptor }, router).await.unwrap() });
    (Server { tls: true, authority }, ca.der().clone())
}

#[tokio::test]
async fn masters_and_logins_speak_tls_with_an_authority_that_is_named() {
    let login = Login::new(None);
    let router = Router::new()
        .route("/acs/api/v1/auth/login", post(self::login))
        .with_state(Arc::clone(&login))
        .route("/api", get(async || "here"));
    let (server, ca) = tls_server(router).await;
    let access = Access::new(&account(server.clone()), &[ca]).unwrap();
    let response = access.get(&server, "/api", LIMIT).await.unwrap();
    assert_eq!(response.bytes(10).await.unwrap(), "here");
    assert_eq!(login.count(), 1);

    let stranger = Access::new(&Identity::Anonymous, &[]).unwrap();
    let error = stranger.get(&server, "/api", LIMIT).await.unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer") && error.contains("mesos.ca-file"), "{error}");
    // The certificate is for an address, not for this name.
    let (_, port) = server.authority.rsplit_once(':').unwrap();
    let named = Server { tls: true, authority: format!("localhost:{port}") };
    assert!(stranger.get(&named, "/api", LIMIT).await.is_err());
}

#[tokio::test]
async fn nothing_is_sent_when_leadership_ends_while_a_login_takes_its_time() {
    // A login that takes until leadership is over.
    let (tenure, renewal) = Tenure::until(Moment::now().after(Duration::from_mins(1)));
    let renewal = Arc::new(renewal);
    let slow = post(async move || {
        renewal.end();
        json!({"token": "t1"}).to_string()
    });
    let login = plain(serve(Router::new().route("/acs/api/v1/auth/login", slow)).await);
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let takes = post(async move || {
        count.fetch_add(1, Ordering::Relaxed);
        StatusCode::ACCEPTED
    });
    let master = plain(serve(Router::new().route("/api", takes)).await);
    let access = Access::new(&account(login), &[]).unwrap().during(&tenure);
    let sent = access.post(&master, None, "/api", HeaderMap::new(), "call", LIMIT);
    let error = sent.await.unwrap_err();
    assert!(matches!(error, AccessError::Deposed), "{error}");
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_call_is_not_sent_again_with_a_new_token_when_leadership_has_ended_meanwhile() {
    let (tenure, renewal) = Tenure::until(Moment::now().after(Duration::from_mins(1)));
    let renewal = Arc::new(renewal);
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let refusing = post(async move || {
        // The first one is on its way; what follows is by one that does not lead.
        renewal.end();
        count.fetch_add(1, Ordering::Relaxed);
        StatusCode::UNAUTHORIZED
    });
    let master = plain(serve(Router::new().route("/api", refusing)).await);
    let login = Login::new(None);
    let access = Access::new(&account(plain(login.serve().await)), &[]).unwrap().during(&tenure);
    let error = access.post(&master, None, "/api", HeaderMap::new(), "call", LIMIT).await.unwrap_err();
    assert!(matches!(error, AccessError::Deposed), "{error}");
    assert_eq!((asked.load(Ordering::Relaxed), login.count()), (1, 2));
}
