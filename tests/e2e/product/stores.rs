//! A cluster store of another kind than a plain etcd: what dockerd makes of it, on one host.

use cluster::get_json;

use crate::docker_store::{Bench, INSTALLER, LIMIT, Ran};
use crate::wait;

/// Where the certificate and its key are on the host.
const FOLDER: &str = "/etc/store-tls";
const ETCD: &str = "127.0.0.1:3379";
const PROXY: &str = "127.0.0.1:4379";

/// `docker-cluster-store DOING` with these words.
fn installer(bench: &Bench, doing: &str, words: &[&str]) -> Ran {
    bench.exec(&[&[INSTALLER, "docker-cluster-store", doing, "--docker-settle", "0"], words].concat())
}

/// A unit of the host that listens at `address`.
fn start(bench: &Bench, unit: &str, address: &str, command: &str) {
    bench.sh(&format!("systemd-run -q --unit={unit} {command}"));
    let (host, port) = address.split_once(':').unwrap();
    wait("a store that listens", LIMIT, || {
        let connect = format!("exec 3<>/dev/tcp/{host}/{port}");
        (bench.exec(&["bash", "-c", &connect]).code == 0).then_some(())
    });
}

/// It wants certificates of its clients, and Docker reaches it through the proxy of its host, as by default.
pub(crate) fn through_a_proxy_to_an_etcd_with_tls(bench: &Bench) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let folder = bench.host().root().join(FOLDER.trim_start_matches('/'));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let files = format!("{FOLDER}/cert.pem --key-file={FOLDER}/key.pem --trusted-ca-file={FOLDER}/cert.pem");
    let etcd = format!(
        "etcd --data-dir=/run/etcd-tls --enable-v2 --listen-client-urls=https://{ETCD} \
         --advertise-client-urls=https://{ETCD} --client-cert-auth --cert-file={files}"
    );
    start(bench, "etcd-tls", ETCD, &etcd);
    start(bench, "proxy", PROXY, &format!("etcd gateway start --listen-addr={PROXY} --endpoints={ETCD}"));

    let endpoints = format!("https://{ETCD}");
    let ip = bench.host().address().to_string();
    let [ca, cert, key] = ["cert.pem", "cert.pem", "key.pem"].map(|name| format!("{FOLDER}/{name}"));
    let etcd = [
        "--etcd-endpoints",
        &endpoints,
        "--etcd-ca",
        &ca,
        "--etcd-cert",
        &cert,
        "--etcd-key",
        &key,
        "--etcd-listen",
        PROXY,
        "--node-ip",
        &ip,
        "--docker-cluster-store-opts",
    ];
    let dockerd = bench.dockerd();
    let given =
        format!("kv.cacertfile={FOLDER}/key.pem,kv.certfile={FOLDER}/cert.pem,kv.keyfile={FOLDER}/key.pem");
    let ran = installer(bench, "apply", &[&etcd[..], &[&given]].concat());
    assert!(ran.code == 78 && ran.stderr.contains("key.pem is not read as a certificate"), "{ran:?}");
    // Docker's files are etcd's where none are given.
    let words = [&etcd[..], &["discovery.heartbeat=20"]].concat();
    let ran = installer(bench, "apply", &words);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!((bench.store_in_memory(), bench.dockerd()), (format!("etcd://{PROXY}"), dockerd));
    // Docker is in that etcd, and in no other.
    let network = bench.sh("docker network create -d overlay theirs");
    let curl = format!("curl -sf --cacert {FOLDER}/cert.pem --cert {FOLDER}/cert.pem --key {FOLDER}/key.pem");
    bench.sh(&format!("{curl} https://{ETCD}/v2/keys/docker/network/v1.0/network/{network}"));
    let plain = format!("{}/v2/keys/docker/network/v1.0/network/{network}", bench.cluster.etcd_endpoint());
    assert!(get_json(&plain).is_err());
    let ran = installer(bench, "apply", &words);
    assert!(ran.code == 0 && ran.stdout.contains("nothing to do"), "{ran:?}");

    // One that is away is no store to be given to a Docker.
    bench.sh("docker network rm theirs");
    taken_back(bench);
    bench.sh("systemctl stop etcd-tls proxy");
    let ran = installer(bench, "apply", &words);
    assert!(ran.code == 69 && ran.stderr.contains("not reached"), "{ran:?}");
}

fn taken_back(bench: &Bench) {
    let ran = bench.must("undo", &["--allow-restart"]);
    assert!(ran.stdout.contains("restart Docker"), "{ran:?}");
    assert_eq!(bench.store_in_memory(), "");
}
