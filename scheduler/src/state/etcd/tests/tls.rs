//! TLS, with certificates of an authority of the test's own.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};

use super::*;
use crate::config::{EtcdLocation, EtcdTls};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for 127.0.0.1 or as a client, and its key.
fn certificate(authority: &Authority, expired: bool) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    if expired {
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    }
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

/// An etcd that wants certificates of its clients.
async fn start(dir: &Path, authority: &Authority, expired: bool) -> Server {
    let (certificate_pem, key) = certificate(authority, expired);
    let files = [("ca.pem", authority.pem()), ("cert.pem", certificate_pem), ("key.pem", key)];
    let flags = files.map(|(name, text)| {
        std::fs::write(dir.join(name), text).unwrap();
        dir.join(name).to_str().unwrap().to_owned()
    });
    let [ca, cert, key] = &flags;
    let tls = EtcdTls { ca: Some(authority.pem()), identity: Some(certificate(authority, false)) };
    let flags = ["--client-cert-auth", "--trusted-ca-file", ca, "--cert-file", cert, "--key-file", key];
    if expired {
        Server::start_unseen(&flags, Some(tls))
    } else {
        Server::start_with(&flags, Some(tls)).await
    }
}

async fn why(location: &EtcdLocation, tls: Option<EtcdTls>) -> String {
    let location = EtcdLocation { tls, ..location.clone() };
    waits(server::candidate(&location, "first")).await
}

#[tokio::test]
#[ignore = "needs etcd: ETCD_BINARY"]
async fn state_is_kept_over_tls_and_every_certificate_that_does_not_do_is_named() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), authority());
    let server = start(dir.path(), &authority, false).await;
    let mut candidate = server.candidate("first");
    let (mut store, _, _) = lead(&mut candidate).await;
    store.commit(&[agent("a:1", "A")]).await.unwrap();
    drop(store);
    candidate.resign().await;

    let tls = server.location.tls.clone().unwrap();
    let other = self::authority();
    for (wrong, right) in [
        (
            EtcdTls { ca: Some(other.pem()), ..tls.clone() },
            "none of the authorities in service.state-ca-file",
        ),
        (EtcdTls { ca: None, ..tls.clone() }, "name its own in service.state-ca-file"),
        (
            EtcdTls { identity: None, ..tls.clone() },
            "give service.state-cert-file and service.state-key-file",
        ),
        (
            EtcdTls { identity: Some(certificate(&authority, true)), ..tls.clone() },
            "refuses the certificate of service.state-cert-file",
        ),
        (
            EtcdTls { identity: Some(certificate(&other, false)), ..tls.clone() },
            "refuses the certificate of service.state-cert-file",
        ),
    ] {
        let why = why(&server.location, Some(wrong)).await;
        assert!(why.contains(right) && why.contains("etcds://127.0.0.1:"), "{right}: {why}");
    }
    let plain = why(&server.location, None).await;
    assert!(plain.contains("must begin with etcds://"), "{plain}");
    let mut by_name = server.location.clone();
    by_name.members[0] = by_name.members[0].replace("127.0.0.1", "localhost");
    let named = why(&by_name, Some(tls)).await;
    assert!(named.contains("its certificate is for other names"), "{named}");
}

#[tokio::test]
#[ignore = "needs etcd: ETCD_BINARY"]
async fn an_etcd_without_tls_or_with_an_expired_certificate_or_none_at_all_is_named() {
    let server = Server::start(&[]).await;
    let (dir, authority) = (tempfile::tempdir().unwrap(), authority());
    let tls = Some(EtcdTls { ca: Some(authority.pem()), identity: None });
    let plain = why(&server.location, tls.clone()).await;
    assert!(plain.contains("must begin with etcd://"), "{plain}");
    let mut gone = server.location.clone();
    drop(server);
    let refused = why(&gone, None).await;
    assert!(
        refused.contains(&format!("{} cannot be reached: Connection refused", gone.members[0])),
        "{refused}"
    );
    gone.members.push("127.0.0.1:1".to_owned());
    let both = why(&gone, tls).await;
    assert!(
        gone.members.iter().all(|member| both.contains(&format!("{member} cannot be reached"))),
        "{both}"
    );

    let server = start(dir.path(), &authority, true).await;
    let started = Instant::now();
    loop {
        let expired = why(&server.location, server.location.tls.clone()).await;
        if expired.contains("its certificate has expired") {
            break;
        }
        assert!(
            expired.contains("cannot be reached") && started.elapsed() < Duration::from_secs(30),
            "{expired}"
        );
    }
}
