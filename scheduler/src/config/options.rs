//! Every option, under the one name that it has everywhere: `group.option` in the package,
//! `CALICO_GROUP_OPTION` in the environment, `--group-option` as a flag.

/// One option.
#[derive(Debug, Clone, Copy)]
pub struct OptionDef {
    /// `group.option`.
    pub name: &'static str,
    /// The value where none is given; none when the option may be left out, or must be given.
    pub default: Option<&'static str>,
    /// What it means, for `--help`.
    pub help: &'static str,
}

impl OptionDef {
    /// The environment variable's name.
    pub fn env(&self) -> String {
        format!("CALICO_{}", self.name.replace(['.', '-'], "_").to_uppercase())
    }

    /// The flag's name, without its dashes.
    pub fn flag(&self) -> String {
        self.name.replace('.', "-")
    }
}

const fn option(name: &'static str, default: &'static str, help: &'static str) -> OptionDef {
    OptionDef { name, default: Some(default), help }
}

const fn bare(name: &'static str, help: &'static str) -> OptionDef {
    OptionDef { name, default: None, help }
}

/// All of them, group by group.
pub const OPTIONS: &[OptionDef] = &[
    option("service.name", "calico", "Name of the framework; a leading '/' is dropped"),
    bare(
        "service.state",
        "Where state is kept: etcd://[user:password@]host:port[,host:port][/prefix], etcds:// for an etcd with TLS, or \
         file:/path; by default in the etcd of etcd.endpoints, below /calico-dcos",
    ),
    bare(
        "service.state-ca-file",
        "PEM file of the CA certificates that the etcd of an etcds:// must have one of; by default the public ones",
    ),
    bare(
        "service.state-cert-file",
        "PEM file of the certificate, and those between it and its CA, to show to the etcd of an etcds://",
    ),
    bare("service.state-key-file", "PEM file of that certificate's private key"),
    option("service.user", "root", "User of all tasks; fixed at the first registration"),
    bare("service.principal", "Principal towards Mesos, for HTTP basic authentication"),
    bare("service.secret-file", "File that holds the principal's secret"),
    bare(
        "service.account-credential",
        "DC/OS service account: its credential's file, or the JSON itself; by default DCOS_SERVICE_ACCOUNT_CREDENTIAL",
    ),
    option("service.role", "*,slave_public", "Roles to take offers of, comma-separated"),
    option(
        "service.reserve",
        "true",
        "Whether the services' resources are reserved, so that a replacement finds room: in the roles of service.role other \
         than * and slave_public, of which there must be one for it to have an effect",
    ),
    bare(
        "service.webui-url",
        "Where people find the HTTP API, for Mesos' user interface; by default at $HOST, which is Marathon's, or the address",
    ),
    option("service.failover-timeout", "168h", "How long the tasks outlive a scheduler that is away"),
    option("service.api-listen", "0.0.0.0:$PORT0", "Address of the HTTP API; $PORT0 is Marathon's"),
    option(
        "service.log",
        "info",
        "What is logged: error, warn, info, debug, trace, or filters like calico_scheduler=debug",
    ),
    option(
        "mesos.master",
        "leader.mesos:5050",
        "Masters: host:port, http://host:port or https://host:port, comma-separated; or \
         zk://[user:password@]host:port,host:port/path alone",
    ),
    bare(
        "mesos.ca-file",
        "PEM file of CA certificates that are trusted besides the public ones; with zk:// it also means https",
    ),
    option("mesos.inventory-interval", "60s", "How often the master's list of agents is read"),
    option(
        "mesos.allow-restart",
        "false",
        "Whether the Mesos agent may be restarted where the CNI network needs that, so many agents at a time as \
         rollout.max-concurrent-restarts says",
    ),
    option(
        "mesos.platform",
        "auto",
        "How the Mesos agents are set up: dcos, mesos (their packages for Linux distributions), or auto, as each is found",
    ),
    bare(
        "mesos.unit",
        "The Mesos agents' systemd unit; by default dcos-mesos-slave, dcos-mesos-slave-public, mesos-slave or mesos-agent",
    ),
    bare(
        "agents.exclude",
        "Agents to leave alone: host names, host:port or attributes (name:value), comma-separated",
    ),
    bare("agents.only", "When given, the only agents to install on; as agents.exclude"),
    option("agents.forget-after", "24h", "How long an agent may be away before it is forgotten"),
    option(
        "agents.task-timeout",
        "15m",
        "How long a task may be at its beginning before it is ended and tried again: an install until it is done, a \
         service until it runs. Fetching is a part of that, being ready is not",
    ),
    option(
        "recovery.max-concurrent",
        "10%",
        "How many services that were ready before are launched again at the same time: a number, or a percentage of \
         the agents",
    ),
    option(
        "recovery.mass-failure",
        "20%",
        "With more agents than this down at the same time, recoveries are held: a number, or a percentage of the agents",
    ),
    option(
        "verify.interval",
        "1h",
        "How often it is looked whether what was installed on the hosts is still there; besides, it is when an agent has \
         registered again or has another version. What has vanished is put back, within the limits of recovery. 0s: never",
    ),
    option(
        "rollout.strategy",
        "canary",
        "In which order a changed configuration comes to the agents: canary (a few, a pause, then several at a time), serial \
         (one after the other) or parallel (several at a time from the beginning)",
    ),
    option("rollout.canary-count", "1", "How many agents go first with rollout.strategy = canary"),
    option(
        "rollout.canary-soak",
        "60s",
        "How long it is waited after them, unless an operator goes on before",
    ),
    option(
        "rollout.max-concurrent-agents",
        "10%",
        "How many agents a changed configuration comes to at the same time: a number, or a percentage of the agents",
    ),
    bare(
        "rollout.max-per-domain",
        "On how many agents of one domain that may be at the same time; by default on as many as rollout.max-concurrent-agents says",
    ),
    bare(
        "rollout.domain-attribute",
        "The attribute of agents that says their domain for rollout.max-per-domain, like rack; by default their region and zone do",
    ),
    bare(
        "rollout.windows",
        "When agents may begin, comma-separated, like 'Mon-Fri 22:00-04:00 Europe/Berlin, Sat+Sun 00:00-24:00'; UTC without a \
         time zone, by default always",
    ),
    option(
        "rollout.stability",
        "10s",
        "For how long all of an agent must be healthy until it is done and the next one begins",
    ),
    option(
        "rollout.max-attempts",
        "5",
        "With how many failures in a row of one step its agent has failed, and waits for an operator",
    ),
    option("rollout.max-failures", "1", "With how many failed agents no further one begins"),
    option(
        "rollout.on-failure",
        "halt",
        "What follows then, or when a canary fails: halt (nothing further, until an operator says so) or rollback (all agents go \
         back to what they had before)",
    ),
    option(
        "rollout.undo-disabled",
        "false",
        "Whether what is no longer wanted (cni.enable, docker.enable, node.enable or libnetwork.enable = false) is taken back \
         on the hosts, not only ended",
    ),
    bare(
        "rollout.allow-unsafe",
        "Options that may be changed although workloads lose their network by it, comma-separated: network.name, \
         network.pool-cidr, network.block-size, node.profile, etcd.endpoints, etcd.proxy",
    ),
    option(
        "rollout.max-concurrent-restarts",
        "1",
        "On how many agents Docker or the Mesos agent may be restarted at the same time, where that is allowed: a number, or \
         a percentage of the agents",
    ),
    option(
        "rollout.agent-timeout",
        "15m",
        "How long an agent has to become healthy, and again after such a restart, before it waits for an operator",
    ),
    bare(
        "etcd.endpoints",
        "URLs of the etcd that Calico keeps its data in, comma-separated (required, unless etcd.discovery-srv is given)",
    ),
    bare(
        "etcd.discovery-srv",
        "DNS name whose SRV records tell its members instead: _etcd-client._tcp, or _etcd-client-ssl._tcp with TLS; for \
         v2-proxy _etcd-server and _etcd-server-ssl",
    ),
    bare(
        "etcd.peer-urls",
        "Peer URLs of its members, comma-separated, which etcd.proxy = v2-proxy needs unless etcd.discovery-srv is given",
    ),
    option(
        "etcd.proxy",
        "gateway",
        "How hosts reach etcd: by a local proxy that passes TCP through (gateway), or serves the v3 API only (grpc-proxy) or \
         the v2 API only (v2-proxy); or direct",
    ),
    option("etcd.listen", "127.0.0.1:2379", "Address of the local etcd proxy"),
    bare(
        "etcd.ca",
        "CA certificates in PEM that the etcd of https:// endpoints must have one of: /path on the agents, URI#sha256=HEX or \
         secret:NAME of DC/OS; the first and last may have #sha256=HEX, so that a changed content is a changed configuration",
    ),
    bare("etcd.cert", "The hosts' certificate in PEM for an etcd that wants one; as etcd.ca"),
    bare("etcd.key", "Its private key in PEM; as etcd.ca"),
    option("cni.enable", "true", "Whether the CNI plugins and the network are installed"),
    bare("cni.plugins-dir", "Where the plugins go; by default as the agent's flags say"),
    bare("cni.config-dir", "Where the network's configuration goes; by default as the agent's flags say"),
    bare(
        "cni.ipv4-pools",
        "Pools that the addresses of containers are from, like 192.168.0.0/16, comma-separated; by default all",
    ),
    bare(
        "cni.log-level",
        "What the plugins log: debug, info, warning or error; by default as they do by themselves",
    ),
    option(
        "cni.nodename-file-optional",
        "false",
        "Whether containers are connected also where calico/node has not yet written the host's name to a file",
    ),
    option(
        "cni.port-mapper",
        "false",
        "Whether ports of the host are mapped to containers, by Mesos' plugin mesos-cni-port-mapper",
    ),
    option(
        "cni.label-wrapper",
        "false",
        "Whether values of labels with more than 63 characters, which Calico refuses, are shortened, as DC/OS does",
    ),
    option("network.name", "calico", "Name of the network and of its profile"),
    option("network.pool-cidr", "192.168.0.0/16", "The IP pool"),
    option("network.block-size", "26", "Prefix length of one host's block of the pool, 20 to 32"),
    bare(
        "network.encapsulation",
        "Between hosts: vxlan, ipip or none; by default vxlan with node.profile = v3, and ipip with v2.6",
    ),
    bare("network.mtu", "MTU of the workloads' interfaces in bytes; by default by encapsulation"),
    option("network.nat-outgoing", "true", "Whether traffic that leaves the pool is masqueraded"),
    option(
        "network.route-reflectors",
        "false",
        "Whether route reflectors are configured in Calico: above 100 agents BIRD needs them, for all agents know all others \
         without",
    ),
    option("node.enable", "true", "Whether calico/node runs on every agent"),
    option("node.profile", "v3", "Line of Calico: v3, or v2.6 on etcd's v2 API"),
    bare("node.image", "Image of calico/node (required when node.enable)"),
    bare("node.backend", "bird, vxlan or none; by default by encapsulation"),
    bare("node.ip", "The node's IP; detected when left out, so leave it out on more than one agent"),
    bare("node.name", "The node's name; detected when left out, so leave it out on more than one agent"),
    option(
        "libnetwork.enable",
        "true",
        "Whether Docker's network plugin runs on every agent, and the Docker network is made",
    ),
    bare("libnetwork.image", "Image of the network plugin (required when libnetwork.enable)"),
    option(
        "docker.enable",
        "true",
        "Whether Docker gets a cluster store, which networks of more than one host need",
    ),
    option(
        "docker.allow-restart",
        "false",
        "Whether Docker may be restarted where its cluster store needs that, so many agents at a time as \
         rollout.max-concurrent-restarts says",
    ),
    bare(
        "docker.cluster-store",
        "Docker's cluster store: etcd://host:port[,host:port][/path] or, before Docker 20.10, zk://…; by default the local etcd proxy, or etcd itself",
    ),
    bare(
        "docker.cluster-advertise",
        "Address that Docker tells the others, as IP:PORT; by default the node's with port 2376, so leave it out on more \
         than one agent",
    ),
    bare(
        "docker.cluster-store-opts",
        "Options of the cluster store, name=value, comma-separated, like kv.cacertfile=/etc/ssl/ca.pem",
    ),
    option(
        "docker.max-agents",
        "500",
        "In a cluster of more agents Docker gets no cluster store, for it would burden etcd; agents that have it keep it",
    ),
    option(
        "docker.replace-store",
        "false",
        "Whether a cluster store that someone else gave to Docker is replaced",
    ),
    option("docker.unit", "docker.service", "Docker's systemd unit on the agents"),
    option("docker.socket", "/var/run/docker.sock", "Docker's API on the agents"),
    bare("registry.mirror", "host:port of a registry that images are pulled from instead of their own"),
    bare(
        "registry.credentials",
        "File of what registries are logged in to with: user:password, or a config.json of Docker's; as etcd.ca",
    ),
    bare("artifacts.installer", "calico-installer, as URI#sha256=HEX (required)"),
    bare(
        "artifacts.etcd",
        "etcd, the program or its release archive (.tar.gz), as URI#sha256=HEX (required with a proxy)",
    ),
    bare("artifacts.cni", "The CNI plugin calico, as URI#sha256=HEX (required when cni.enable)"),
    bare("artifacts.cni-ipam", "The CNI plugin calico-ipam, as URI#sha256=HEX (required when cni.enable)"),
    bare("artifacts.calicoctl", "calicoctl, as URI#sha256=HEX (required)"),
    option("cluster-init.cpus", "0.1", "CPUs of the task"),
    option("cluster-init.mem", "64", "Memory of the task in MB (2^20 bytes)"),
    option("prefetch.cpus", "0.1", "CPUs of the task"),
    option("prefetch.mem", "64", "Memory of the task in MB (2^20 bytes)"),
    option("etcd-proxy.cpus", "0.1", "CPUs of the task"),
    option("etcd-proxy.mem", "64", "Memory of the task in MB (2^20 bytes)"),
    option("cni.cpus", "0.1", "CPUs of the task"),
    option("cni.mem", "64", "Memory of the task in MB (2^20 bytes)"),
    option("calico-node.cpus", "0.2", "CPUs of the task and of its container"),
    option("calico-node.mem", "256", "Memory of the task and of its container in MB (2^20 bytes)"),
    option("docker-cluster-store.cpus", "0.1", "CPUs of the task"),
    option("docker-cluster-store.mem", "64", "Memory of the task in MB (2^20 bytes)"),
    option("libnetwork.cpus", "0.1", "CPUs of the task and of its container"),
    option("libnetwork.mem", "128", "Memory of the task and of its container in MB (2^20 bytes)"),
    option("docker-network.cpus", "0.1", "CPUs of the task"),
    option("docker-network.mem", "64", "Memory of the task in MB (2^20 bytes)"),
];
