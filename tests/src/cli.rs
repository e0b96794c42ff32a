//! The commands of `cluster`.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use cluster::{Cluster, HostKind, Platform, Progress, Spec};

/// A real local cluster: Apache Mesos, etcd and agent hosts with systemd and Docker, in one network namespace.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    /// Which cluster: several can be up at a time.
    #[arg(long, global = true, default_value_t = Spec::default().name, env = "CLUSTER_NAME")]
    name: String,
    #[command(subcommand)]
    command: Command,
}

/// How agent hosts are set up.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum PlatformChoice {
    /// The first as DC/OS does, the others with plain Mesos' directories.
    Mixed,
    /// All with the units mesos-slave and mesos-agent, and their files in /etc.
    Mesos,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a cluster and wait until all of it works.
    Up {
        /// Number of agent hosts; the first is set up as DC/OS does, the last of several is public.
        #[arg(long, default_value_t = Spec::default().agents)]
        agents: u8,
        /// How they are set up instead: all as the packages of Mesos for Linux distributions do.
        #[arg(long, value_enum, default_value = "mixed")]
        platform: PlatformChoice,
        /// Number of masters: 1, or 3 with ZooKeeper.
        #[arg(long, default_value_t = Spec::default().masters)]
        masters: u8,
        /// A setting of each master: `MESOS_NAME=VALUE`.
        #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
        master_env: Vec<(String, String)>,
        /// A setting of each agent: `MESOS_NAME=VALUE`.
        #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
        agent_env: Vec<(String, String)>,
    },
    /// Show hosts, processes and addresses.
    Status,
    /// Run a command in a host and exit with its status.
    Exec {
        /// The host: `1`, `host1`, its full name or its address.
        host: String,
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Show the journal of a host, or the output of etcd, a master or another process.
    Logs {
        /// A host, or the name of a process that `status` shows.
        of: String,
    },
    /// Shut a host down.
    PowerOff {
        /// The host.
        host: String,
        /// End it at once, as when the power fails.
        #[arg(long)]
        hard: bool,
    },
    /// Start a host again and wait until its agent is registered.
    PowerOn {
        /// The host.
        host: String,
    },
    /// Drop everything that a host sends or is sent.
    CutOff {
        /// The host.
        host: String,
    },
    /// End that.
    Reconnect {
        /// The host.
        host: String,
    },
    /// Replace a host by a new machine at the same address.
    Rebuild {
        /// The host.
        host: String,
    },
    /// Start one more agent host.
    AddHost,
    /// End the cluster and remove all of it.
    Down {
        /// Instead: every cluster whose process ended without taking it down, as a killed test.
        #[arg(long)]
        abandoned: bool,
    },
    /// Build what all clusters share (the first `up` does it, too): minutes once, nothing after that. Prints the folder
    /// of the base image.
    Prepare,
    /// The artifact server; `up` starts it.
    #[command(hide = true)]
    Serve {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        artifacts: PathBuf,
    },
}

impl Cli {
    /// Does what was asked for; the result is the program's exit status.
    pub fn run(self) -> Result<ExitCode> {
        let name = self.name;
        match self.command {
            Command::Up { agents, platform, masters, master_env, agent_env } => {
                let (master_env, agent_env) =
                    (master_env.into_iter().collect(), agent_env.into_iter().collect());
                let platform = match platform {
                    PlatformChoice::Mixed => Platform::Mixed,
                    PlatformChoice::Mesos => Platform::Mesos,
                };
                up(&Spec { name, agents, platform, masters, master_env, agent_env, ..Spec::default() })?;
            }
            Command::Status => status(&Cluster::attach(&name)?)?,
            Command::Exec { host, words } => {
                let status = Cluster::attach(&name)?
                    .host(&host)?
                    .command(&words)?
                    .status()
                    .context("cannot run nsenter")?;
                let code = status.code().and_then(|code| u8::try_from(code).ok());
                return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
            }
            Command::Logs { of } => logs(&Cluster::attach(&name)?, &of)?,
            Command::PowerOff { host, hard } => {
                let cluster = Cluster::attach(&name)?;
                let host = cluster.host(&host)?;
                if hard { host.unplug()? } else { host.power_off()? }
            }
            Command::PowerOn { host } => Cluster::attach(&name)?.host(&host)?.power_on()?,
            Command::CutOff { host } => Cluster::attach(&name)?.host(&host)?.cut_off()?,
            Command::Reconnect { host } => Cluster::attach(&name)?.host(&host)?.reconnect()?,
            Command::Rebuild { host } => Cluster::attach(&name)?.host(&host)?.rebuild()?,
            Command::AddHost => {
                let cluster = Cluster::attach(&name)?;
                let host = cluster.add_host()?;
                println!("{} {}", host.name(), host.address());
            }
            Command::Down { abandoned: false } => Cluster::remove(&name)?,
            Command::Down { abandoned: true } => show(&Cluster::remove_abandoned()?.join("\n"))?,
            Command::Prepare => show(&Cluster::prepare(&Progress::stderr())?.display().to_string())?,
            Command::Serve { listen, artifacts } => cluster::artifact_server::serve(listen, &artifacts)
                .with_context(|| format!("cannot serve {} at {listen}", artifacts.display()))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn up(spec: &Spec) -> Result<()> {
    let progress = Progress::stderr();
    let mut cluster = Cluster::up(spec, &progress)?;
    cluster.keep()?;
    progress.line("all of it works");
    status(&cluster)
}

fn status(cluster: &Cluster) -> Result<()> {
    let mut text = format!("{:<20} {:<15} {:<16} {:<4} agent\n", "host", "address", "kind", "on");
    for host in cluster.hosts()? {
        let (name, address, on) = (host.name(), host.address().to_string(), host.is_on()?);
        let agent =
            if on { host.agent_id().unwrap_or_else(|error| error.to_string()) } else { String::new() };
        let kind = match host.kind() {
            HostKind::DcOs => "dc/os",
            HostKind::Mesos => "mesos",
            HostKind::Public => "public",
            HostKind::Packaged => "packaged",
            HostKind::PackagedPublic => "packaged, public",
        };
        let on = if on { "yes" } else { "no" };
        writeln!(text, "{name:<20} {address:<15} {kind:<16} {on:<4} {agent}")?;
    }
    writeln!(text)?;
    for name in cluster.processes()? {
        let process = cluster.process(&name)?;
        let state =
            if process.is_running() { format!("process {}", process.pid()) } else { "ended".to_owned() };
        writeln!(text, "{name:<20} {state}")?;
    }
    writeln!(text, "\nmaster   {} ({})", cluster.mesos_master(), cluster.master_urls().join(" "))?;
    writeln!(text, "etcd     {}", cluster.etcd_endpoint())?;
    writeln!(text, "images   {}", cluster.node_image())?;
    writeln!(text, "         {}", cluster.libnetwork_image())?;
    writeln!(text, "files    {}", cluster.run_dir().display())?;
    show(&text)
}

/// Prints to a pipe that may be closed early, as by `head`.
fn show(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

fn logs(cluster: &Cluster, name: &str) -> Result<()> {
    let text = match cluster.process(name) {
        Ok(process) => process.log()?,
        Err(_) => cluster.host(name)?.journal()?,
    };
    show(&text)
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
