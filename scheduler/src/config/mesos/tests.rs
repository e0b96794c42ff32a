use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::config::Config;

/// PKCS#1 and PKCS#8 of one key, made for these tests (`openssl genrsa 2048`).
pub const PKCS1: &str = include_str!("test-key-pkcs1.pem");
pub const PKCS8: &str = include_str!("test-key-pkcs8.pem");

fn plain(authority: &str) -> Server {
    Server { tls: false, authority: authority.to_owned() }
}

/// Reads the options of the identity alone: all other faults are left out.
fn identity_of(values: &[(&str, &str)]) -> Result<Identity, String> {
    let env: BTreeMap<String, String> =
        values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut reader = Reader::new(&env, BTreeMap::new());
    let mesos = read(&mut reader, &env);
    reader.finish(mesos.identity).map_err(|faults| faults.to_string())
}

fn credential(key: &str) -> String {
    json!({"scheme": "RS256", "uid": "calico", "private_key": key,
           "login_endpoint": "https://leader.mesos/acs/api/v1/auth/login"})
    .to_string()
}

#[test]
fn masters_are_named_or_found() {
    let https = Server { tls: true, authority: "b:5051".to_owned() };
    assert_eq!(
        masters("a:5050, http://[::1]:1/ ,https://b:5051"),
        Ok(Masters::Named(vec![plain("a:5050"), plain("[::1]:1"), https]))
    );
    let found = masters("zk://me:p@ss@a:2181,b/some/path/").unwrap();
    let Masters::ZooKeeper(found) = found else { panic!("{found:?}") };
    assert_eq!((found.ensemble.as_str(), found.path.as_str()), ("a:2181,b:2181", "/some/path"));
    assert_eq!(found.digest.as_ref().map(Secret::expose), Some("me:p@ss"));
    assert!(!format!("{found:?}").contains("p@ss"));
}

#[test]
fn wrong_masters_are_told_what_is_right() {
    for (value, right) in [
        ("", "leader.mesos:5050"),
        ("zk://a:1/mesos,http://b:5050", "mixed"),
        ("b:5050,zk://a:1/mesos", "mixed"),
        ("zk://a:1", "path"),
        ("zk://a:1/..", "path"),
        ("zk:///mesos", "server"),
        ("zk://me@a:1/mesos", "user:password"),
        ("zk://a:x/mesos", "host:port"),
        ("zk://a b:1/mesos", "host:port"),
        ("ftp://a:1", "https://"),
        ("http://me:pass@a:1", "service.principal"),
        ("a b:1", "host:port"),
    ] {
        let error = masters(value).unwrap_err();
        assert!(error.contains(right) && !error.contains("pass@"), "{value}: {error}");
    }
}

#[test]
fn a_fault_shows_no_password() {
    let env = BTreeMap::from([
        ("CALICO_MESOS_MASTER".to_owned(), "zk://me:hunter2@a:1".to_owned()),
        ("CALICO_SERVICE_ACCOUNT_CREDENTIAL".to_owned(), r#"{"private_key": "hunter2"}"#.to_owned()),
        ("CALICO_SERVICE_ACOUNT_CREDENTIAL".to_owned(), "hunter2".to_owned()),
    ]);
    let faults = Config::from_env(&env).unwrap_err().to_string();
    assert!(!faults.contains("hunter2"), "{faults}");
    assert!(faults.contains("zk://me:…@a:1"), "{faults}");
}

#[test]
fn basic_takes_principal_and_secret_together() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    let file = path.to_str().unwrap();
    let (principal, secret) = (("CALICO_SERVICE_PRINCIPAL", "calico"), ("CALICO_SERVICE_SECRET_FILE", file));
    let error = identity_of(&[principal, secret]).unwrap_err();
    assert!(error.contains(&format!("service.secret-file = '{file}': cannot be read")), "{error}");
    std::fs::write(&path, " hush\n").unwrap();
    let identity = identity_of(&[principal, secret]).unwrap();
    assert_eq!(identity.principal(), Some("calico"));
    assert!(!format!("{identity:?}").contains("hush"));
    let Identity::Basic { secret: hidden, .. } = identity else { panic!("{identity:?}") };
    assert_eq!(hidden.expose(), "hush");

    for (given, expected) in [
        (vec![principal], "service.principal = 'calico': service.secret-file must be given with it"),
        (vec![secret], "service.principal must be given with it"),
        (vec![("CALICO_SERVICE_PRINCIPAL", "a:b"), secret], "no colon"),
    ] {
        let error = identity_of(&given).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let json = credential(PKCS8);
    let error = identity_of(&[principal, secret, ("CALICO_SERVICE_ACCOUNT_CREDENTIAL", &json)]).unwrap_err();
    assert!(error.contains("give the one or the other"), "{error}");
    // The variable is DC/OS's, and no contradiction.
    let identity = identity_of(&[principal, secret, (CREDENTIAL_VARIABLE, &json)]).unwrap();
    assert_eq!(identity.principal(), Some("calico"));
    std::fs::write(&path, "\n").unwrap();
    assert!(identity_of(&[principal, secret]).unwrap_err().contains("is empty"));
}

#[test]
fn an_account_is_given_as_json_as_file_or_by_dcos() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("credential.json");
    std::fs::write(&path, credential(PKCS1)).unwrap();
    let (file, inline) = (path.to_str().unwrap().to_owned(), credential(PKCS8));
    for (name, value) in [
        ("CALICO_SERVICE_ACCOUNT_CREDENTIAL", file.as_str()),
        ("CALICO_SERVICE_ACCOUNT_CREDENTIAL", inline.as_str()),
        (CREDENTIAL_VARIABLE, inline.as_str()),
        (CREDENTIAL_VARIABLE, &format!("file://{file}")),
    ] {
        let Identity::Account(account) = identity_of(&[(name, value)]).unwrap() else { panic!("{name}") };
        assert_eq!((account.uid.as_str(), account.login_path.as_str()), ("calico", "/acs/api/v1/auth/login"));
        assert_eq!(account.login, Server { tls: true, authority: "leader.mesos:443".to_owned() });
    }
    assert_eq!(identity_of(&[]).unwrap().principal(), None);
}

#[test]
fn a_wrong_credential_says_what_is_wrong_and_not_what_it_holds() {
    let change = |field: &str, value: &str| {
        let mut json: serde_json::Value = serde_json::from_str(&credential(PKCS8)).unwrap();
        json[field] = value.into();
        json.to_string()
    };
    for (value, right) in [
        (r#"{"uid": "hunter2"}"#.to_owned(), "login_endpoint"),
        ("{hunter2".to_owned(), "login_endpoint"),
        (change("scheme", "HS256"), "RS256"),
        (change("private_key", "hunter2"), "private_key"),
        (change("login_endpoint", "leader.mesos/hunter2"), "https://"),
        (change("login_endpoint", "ftp://hunter2"), "https://"),
        ("hunter2".to_owned(), "absolute path"),
        ("/nowhere/at/all".to_owned(), "cannot be read"),
    ] {
        for name in ["CALICO_SERVICE_ACCOUNT_CREDENTIAL", CREDENTIAL_VARIABLE] {
            let error = identity_of(&[(name, &value)]).unwrap_err();
            assert!(error.contains(right) && !error.contains("hunter2"), "{error}");
        }
    }
}

#[test]
fn a_ca_file_holds_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    let file = path.to_str().unwrap();
    let key = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap();
    std::fs::write(&path, key.cert.pem()).unwrap();
    assert_eq!(roots(file).map(|found| found.len()), Ok(1));
    std::fs::write(&path, "nothing").unwrap();
    assert!(roots(file).unwrap_err().contains("certificates in PEM"));
    std::fs::write(&path, "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").unwrap();
    assert!(roots(file).unwrap_err().contains("no PEM"));
}

proptest! {
    #[test]
    fn no_value_panics(value in "\\PC*", prefix in prop::sample::select(vec!["", "zk://", "https://", "{"])) {
        let value = format!("{prefix}{value}");
        let _ = masters(&value);
        let _ = account(&value);
        let _ = login(&value);
    }
}
