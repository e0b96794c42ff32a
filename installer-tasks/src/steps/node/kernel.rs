//! What calico-node needs of the kernel: as `calicoctl node run` would prepare it.

use crate::exit::{Exit, Failure, Result};
use crate::host::Host;
use crate::host::kernel::{self, Module, ModuleEvidence, Raised};
use crate::say;
use crate::values::Encapsulation;

/// Modules that Felix uses.
const ALWAYS: [Module; 3] = [
    Module { name: "xt_set", symbol: "CONFIG_NETFILTER_XT_SET" },
    Module { name: "ip6_tables", symbol: "CONFIG_IP6_NF_IPTABLES" },
    Module { name: "ip_set", symbol: "CONFIG_IP_SET" },
];
const IPIP: Module = Module { name: "ipip", symbol: "CONFIG_NET_IPIP" };
const VXLAN: Module = Module { name: "vxlan", symbol: "CONFIG_VXLAN" };

/// The module without which no packet leaves the host.
fn tunnel(encapsulation: Encapsulation) -> Option<Module> {
    match encapsulation {
        Encapsulation::Ipip => Some(IPIP),
        Encapsulation::Vxlan => Some(VXLAN),
        Encapsulation::None => None,
    }
}

/// A sysctl that is raised when it is too low.
struct Sysctl {
    key: &'static str,
    least: u64,
    /// Whether Calico cannot work without it.
    needed: bool,
}

const SYSCTLS: [Sysctl; 3] = [
    Sysctl { key: "net/ipv4/ip_forward", least: 1, needed: true },
    Sysctl { key: "net/ipv6/conf/all/forwarding", least: 1, needed: false },
    Sysctl { key: "net/netfilter/nf_conntrack_max", least: 1_000_000, needed: false },
];

/// Loads modules and raises sysctls; what is missing is said, and is an error only when nothing can work without.
pub fn prepare(host: &Host, encapsulation: Encapsulation) -> Result<()> {
    let tunnel = tunnel(encapsulation);
    let evidence = ModuleEvidence::of(host);
    for module in ALWAYS.into_iter().chain(tunnel).filter(|module| !evidence.shows(*module)) {
        let name = module.name;
        match kernel::modprobe(module) {
            Ok(()) => say::result(format_args!("loaded the kernel module {name}")),
            Err(reason) if Some(module) == tunnel => {
                return Err(Failure::unsuitable(format!(
                    "the kernel module {name} is not there and cannot be loaded ({reason}), and the chosen \
                     --network-encapsulation needs it: load it, or choose another one"
                )));
            }
            Err(reason) => say::progress(format_args!(
                "the kernel module {name} is not seen and cannot be loaded: {reason}"
            )),
        }
    }
    SYSCTLS.iter().try_for_each(|sysctl| raise(host, sysctl))
}

/// Something that Calico needs of the kernel, or would have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The module or sysctl.
    pub name: String,
    /// Whether it is there, or [`prepare`] can see to it.
    pub met: bool,
    /// Whether Calico cannot work without it.
    pub needed: bool,
    /// What was seen.
    pub text: String,
}

/// What [`prepare`] would find; changes nothing.
pub fn needs(host: &Host, encapsulation: Encapsulation) -> Vec<Need> {
    let tunnel = tunnel(encapsulation);
    let evidence = ModuleEvidence::of(host);
    let module = |module: Module| {
        let (met, text) = if evidence.shows(module) {
            (true, "it is in the kernel")
        } else if kernel::can_be_loaded(host, module) {
            (true, "it can be loaded")
        } else {
            (false, "it is neither in the kernel nor among the modules that can be loaded")
        };
        let name = format!("module {}", module.name);
        Need { name, met, needed: Some(module) == tunnel, text: text.to_owned() }
    };
    let sysctl = |sysctl: &Sysctl| {
        let (met, text) = match kernel::sysctl(host, sysctl.key) {
            Ok(Some(value)) if value >= sysctl.least => (true, format!("it is {value}")),
            Ok(Some(value)) if kernel::sysctl_can_be_written(host, sysctl.key) => {
                (true, format!("it is {value}, and can be raised to {}", sysctl.least))
            }
            Ok(Some(value)) => {
                (false, format!("it is {value}, should be {}, and cannot be written", sysctl.least))
            }
            Ok(None) => (!sysctl.needed, "this kernel does not have it".to_owned()),
            Err(error) => (false, error.to_string()),
        };
        Need { name: format!("sysctl {}", sysctl.key.replace('/', ".")), met, needed: sysctl.needed, text }
    };
    let modules = ALWAYS.into_iter().chain(tunnel).map(module);
    modules.chain(SYSCTLS.iter().map(sysctl)).collect()
}

fn raise(host: &Host, sysctl: &Sysctl) -> Result<()> {
    let Sysctl { key, least, needed } = *sysctl;
    let name = key.replace('/', ".");
    let raised = kernel::raise_sysctl(host, key, least)
        .map_err(|error| Failure::new(Exit::Bug, format!("cannot read the sysctl {name}")).because(error))?;
    match raised {
        Raised::From(value) => say::result(format_args!("raised the sysctl {name} from {value} to {least}")),
        Raised::Absent if needed => {
            return Err(Failure::unsuitable(format!("this kernel has no sysctl {name}, which Calico needs")));
        }
        Raised::Sufficient | Raised::Absent => {}
        Raised::Refused { value, error } if needed => {
            let text = format!("the sysctl {name} is {value}, must be {least}, and cannot be written");
            return Err(Failure::new(Exit::NotPermitted, text).because(error));
        }
        Raised::Refused { value, error } => {
            say::progress(format_args!(
                "the sysctl {name} is {value}, should be {least}, and cannot be written: {error}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn host(root: &std::path::Path, modules: &[&str], forward: &str) -> Host {
        let host = Host::below(root);
        for module in modules {
            fs::create_dir_all(host.place("/sys/module").join(module)).unwrap();
        }
        let forwarding = host.place("/proc/sys/net/ipv4/ip_forward");
        fs::create_dir_all(forwarding.parent().unwrap()).unwrap();
        fs::write(forwarding, forward).unwrap();
        host
    }

    #[test]
    fn forwarding_is_turned_on() {
        let root = tempfile::tempdir().unwrap();
        let host = host(root.path(), &["xt_set", "ip6_tables", "ip_set", "vxlan"], "0\n");
        prepare(&host, Encapsulation::Vxlan).unwrap();
        assert_eq!(fs::read_to_string(host.place("/proc/sys/net/ipv4/ip_forward")).unwrap(), "1\n");
    }

    /// Whatever it came to before its end: what is raised stays, and the rest is raised by the next.
    #[test]
    fn a_preparation_that_died_anywhere_is_finished_by_the_next() {
        for done in 0..=SYSCTLS.len() {
            let root = tempfile::tempdir().unwrap();
            let host = host(root.path(), &["xt_set", "ip6_tables", "ip_set", "vxlan"], "0\n");
            for (number, Sysctl { key, least, .. }) in SYSCTLS.iter().enumerate() {
                let path = host.place("/proc/sys").join(key);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, format!("{}\n", if number < done { *least } else { 0 })).unwrap();
            }
            prepare(&host, Encapsulation::Vxlan).unwrap();
            for Sysctl { key, least, .. } in SYSCTLS {
                let is = fs::read_to_string(host.place("/proc/sys").join(key)).unwrap();
                assert_eq!(is, format!("{least}\n"), "{key} after {done}");
            }
        }
    }

    #[test]
    fn a_kernel_without_forwarding_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let host = host(root.path(), &["xt_set", "ip6_tables", "ip_set"], "0\n");
        fs::remove_file(host.place("/proc/sys/net/ipv4/ip_forward")).unwrap();
        let failure = prepare(&host, Encapsulation::None).unwrap_err();
        assert!(failure.to_string().contains("net.ipv4.ip_forward"), "{failure}");
    }

    #[test]
    fn only_the_tunnel_s_module_is_needed() {
        assert_eq!(tunnel(Encapsulation::None), None);
        assert_eq!(tunnel(Encapsulation::Ipip), Some(IPIP));
        assert_eq!(tunnel(Encapsulation::Vxlan), Some(VXLAN));
    }
}
