//! A real local cluster: Mesos, etcd, ZooKeeper and agent hosts with systemd and Docker.
