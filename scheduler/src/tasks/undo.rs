//! How task types that are no longer wanted are taken back on a host: by the installer's `undo` of their step.

use super::{Conditions, Template, cni, docker_cluster_store, docker_socket, flag, network_name, words};
use crate::config::Config;
use crate::core::TaskType;

/// The task that takes `task_type` back; none when it leaves nothing on the host.
pub(super) fn template(config: &Config, task_type: TaskType) -> Option<Template> {
    let target = &config.target;
    let docker = || vec![flag("docker-unit", &target.docker_unit), docker_socket(target)];
    let needs = target.needs;
    let (needs, args, restart) = match task_type {
        // Of the cluster, which keeps what is in etcd; or ended with the task that runs it.
        TaskType::ClusterInit | TaskType::DockerNetwork | TaskType::Prefetch | TaskType::EtcdProxy => {
            return None;
        }
        TaskType::DockerClusterStore => {
            let restart = Some(docker_cluster_store::restart(target));
            (
                needs.docker_cluster_store,
                [words(&["docker-cluster-store", "undo", "--complete"]), docker()].concat(),
                restart,
            )
        }
        TaskType::Cni => {
            let args = [words(&["cni", "undo", "--complete"]), vec![network_name(target)]];
            let args = [args.concat(), cni::unit_flags(&target.agent)].concat();
            (needs.cni, args, cni::conditions(target).restart)
        }
        TaskType::CalicoNode => (needs.calico_node, [words(&["node", "undo"]), docker()].concat(), None),
        TaskType::Libnetwork => (needs.libnetwork, [words(&["libnetwork", "undo"]), docker()].concat(), None),
    };
    let conditions = Conditions { restart, ..Conditions::default() };
    Some(Template { conditions, ..Template::install(config, needs, args, Vec::new()) })
}
