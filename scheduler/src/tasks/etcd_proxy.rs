//! `etcd-proxy`: gives the programs of a host etcd on a loopback address.

use std::time::Duration;

use super::{Probe, Template, artifact_flag, etcd_flags, file, flag, words};
use crate::config::{Config, Proxy};

pub(super) fn template(config: &Config) -> Option<Template> {
    let target = &config.target;
    let Proxy::Local(_, etcd) = &target.etcd.proxy else { return None };
    let etcd = file("etcd", etcd);
    let mut flags = etcd_flags(&target.etcd);
    if !target.etcd.peer_urls.is_empty() {
        flags.push(flag("etcd-peer-urls", target.etcd.peer_urls.join(",")));
    }
    let mut args = words(&["etcd-proxy", "run"]);
    args.extend(flags.clone());
    args.push(artifact_flag("artifacts-etcd", &etcd));
    let mut check = words(&["etcd-proxy", "check"]);
    check.extend(flags);
    // No health check: an upstream that is away is no reason to kill a proxy.
    let check = Probe {
        args: check,
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(5),
        grace: Duration::ZERO,
        failures: 0,
    };
    let install = Template::install(config, target.needs.etcd_proxy, args, vec![etcd]);
    Some(Template { service: true, check: Some(check), ..install.with_tls(&target.etcd) })
}
