//! What operators command, and mistype.

use std::process::Command;

use cluster::Cluster;
use cluster::marathon::Scheduler;

/// Status code and body of the answer to a POST of `what`, as an operator does it on the scheduler's host.
pub fn post(cluster: &Cluster, scheduler: &Scheduler<'_>, what: &str) -> (u16, String) {
    let url = format!("http://127.0.0.1:{}/v1/plans/{what}", scheduler.api().address().port());
    answer(
        &mut cluster
            .command(Command::new("curl").args(["-sS", "-m10", "-w", "\n%{http_code}", "-XPOST", &url]))
            .unwrap(),
    )
}

fn answer(curl: &mut Command) -> (u16, String) {
    let output = curl.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let (body, status) = said.rsplit_once('\n').unwrap_or_else(|| panic!("{curl:?}: {:?}", output.stderr));
    (status.parse().unwrap(), body.to_owned())
}

/// A command that must be carried out.
pub fn order(cluster: &Cluster, scheduler: &Scheduler<'_>, what: &str) {
    let (status, said) = post(cluster, scheduler, what);
    assert_eq!(status, 200, "{what}: {said}");
    eprintln!("{what}: {said}");
}

/// What is wrong is refused with what would be right, and changes nothing.
pub fn mistyped(cluster: &Cluster, scheduler: &Scheduler<'_>) {
    let refused = [
        ("updat/pause", 404, "deploy, update, recovery"),
        ("update/pose", 404, "pause"),
        ("update/skip?phase=node&step=10.0.0.1:5051", 400, "calico-node"),
        ("update/skip?fase=calico-node", 400, "fase"),
        ("update/skip?phase=calico-node&step=10.0.0.1", 404, "host:port"),
        ("update/skip?phase=cluster-init", 400, "each agent"),
        ("update/skip", 400, "needs a phase"),
        ("update/pause?phase=calico-node", 400, "whole plan"),
        ("update/retry", 409, "changes nothing"),
        ("update/forget", 400, "step=host:port"),
        ("deploy/stop", 400, "paused and resumed"),
    ];
    for (what, code, hint) in refused {
        let (status, said) = post(cluster, scheduler, what);
        assert!(status == code && said.contains(hint), "{what}: {status} {said}");
    }
    let from_elsewhere = format!("http://{}/v1/plans/update/pause", scheduler.api().address());
    let (status, said) =
        answer(Command::new("curl").args(["-sS", "-m10", "-w", "\n%{http_code}", "-XPOST", &from_elsewhere]));
    let own = cluster.machine_address().to_string();
    assert!(status == 403 && said.contains("loopback") && said.contains(&own), "{status} {said}");
    let (_, rollout) = scheduler.api().get("/v1/rollout").unwrap();
    assert_eq!(rollout["paused"].as_array().map(Vec::len), Some(0), "{rollout}");
}
