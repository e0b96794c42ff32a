//! `calico-scheduler`: see `--help`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use calico_scheduler::api::{self, Role};
use calico_scheduler::config::{Config, OPTIONS};
use calico_scheduler::{core, driver, mesos, state, tasks};
use clap::{Arg, Command};
use mesos_v1::FrameworkInfo;
use mesos_v1::framework_info::{Capability, capability};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

fn main() -> ExitCode {
    // A variable that is not Unicode is others' business, or refused for what is left of it.
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let env = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
    let config = match Config::read(&env, flags()) {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("calico-scheduler: {faults}");
            return ExitCode::from(78);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(config.service.log.as_str())
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    match run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("calico-scheduler: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The options given as flags, by name.
fn flags() -> BTreeMap<&'static str, String> {
    let arguments = OPTIONS.iter().map(|option| {
        let default = option.default.map(|default| format!(" [default: {default}]")).unwrap_or_default();
        let help = format!("{} [env: {}]{default}", option.help, option.env());
        Arg::new(option.name).long(option.flag()).value_name("VALUE").help(help)
    });
    let matches = Command::new("calico-scheduler")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Installs Calico on every agent of a Mesos cluster and keeps it running")
        .args(arguments)
        .get_matches();
    OPTIONS
        .iter()
        .filter_map(|option| Some((option.name, matches.get_one::<String>(option.name)?.clone())))
        .collect()
}

#[tokio::main]
async fn run(config: &Config) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.service.api_listen)
        .await
        .with_context(|| format!("cannot listen on service.api-listen = {}", config.service.api_listen))?;
    let address = listener.local_addr()?;
    let mut opener = state::Opener::new(&config.service, &holder(address));
    let (role, shown) = watch::channel(Role::Standby("the state is being opened".to_owned()));
    info!(%address, "the API listens");
    let api = axum::serve(listener, api::router(shown, opener.report()));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let ended = tokio::select! {
        ended = lead(config, &mut opener, &role) => ended,
        served = api => served.context("the API has ended"),
        // Tasks go on running: the next scheduler takes them over.
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    opener.resign().await;
    ended
}

/// Leads, again and again: each time with what is stored then, and a new mind. Ends with an error.
async fn lead(config: &Config, opener: &mut state::Opener, role: &watch::Sender<Role>) -> anyhow::Result<()> {
    let tasks = Arc::new(tasks::TaskTypes::new(config));
    let access = mesos::Access::new(&config.mesos.identity, &config.mesos.roots)
        .context("cannot use the certificates of mesos.ca-file")?;
    if config.service.reserve_in.is_empty() {
        info!(
            "nothing is reserved: service.reserve is false, or service.role has no role but * and slave_public"
        );
    }
    loop {
        let standby = |why: &str| drop(role.send_replace(Role::Standby(why.to_owned())));
        let state::Opened { store, state: stored, tenure, doubtful } = opener.open(standby).await?;
        info!(agents = stored.agents.len(), framework = ?stored.framework_id, "state is loaded");
        let settings = core::Settings {
            doubtful,
            exclude: config.agents.exclude.clone(),
            only: config.agents.only.clone(),
            reservations: core::Reservations {
                service: config.service.name.clone(),
                principal: config.mesos.identity.principal().map(str::to_owned),
                roles: config.service.reserve_in.clone(),
            },
            forget_after: config.agents.forget_after,
            max_recoveries: config.recovery.max_concurrent,
            mass_failure: config.recovery.mass_failure,
            max_restarts: config.rollout.max_concurrent_restarts,
            agent_timeout: config.rollout.agent_timeout,
            ..core::Settings::new(tasks.specs())
        };
        let framework = framework_info(config, stored.framework_id.as_ref());
        let client = mesos::Client::start(config.mesos.masters.clone(), access.clone(), framework, &tenure);
        let subscription = client.0.condition();
        let (driver, handle) = driver::Driver::new(
            core::Core::new(settings, stored),
            (store, tenure),
            Arc::clone(&tasks),
            config.service.roles.clone(),
            config.mesos.inventory_interval,
            client,
            driver::SystemClock,
        );
        role.send_replace(Role::Leading { handle, subscription });
        match Box::pin(driver.run()).await {
            driver::Ended::Deposed => {
                standby("leadership was lost");
                warn!("leadership was lost: nothing is done until this scheduler leads again");
            }
            ended => return Err(ended.into()),
        }
    }
}

/// Who we are, for other schedulers and their operators.
fn holder(api: SocketAddr) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}, API on {api}, process {}", host.trim(), std::process::id())
}

fn framework_info(config: &Config, id: Option<&core::FrameworkId>) -> FrameworkInfo {
    use capability::Type;
    let capabilities = [
        Type::MultiRole,
        Type::PartitionAware,
        Type::ReservationRefinement,
        Type::RegionAware,
        // DC/OS hides agents with GPUs from all others; we take none.
        Type::GpuResources,
    ];
    FrameworkInfo {
        user: config.service.user.clone(),
        name: config.service.name.clone(),
        id: id.map(|id| id.0.as_str().into()),
        failover_timeout: Some(config.service.failover_timeout.as_secs_f64()),
        // Otherwise a restart of an agent kills our tasks there.
        checkpoint: Some(true),
        roles: config.service.roles.clone(),
        webui_url: config.service.webui_url.clone(),
        principal: config.mesos.identity.principal().map(str::to_owned),
        capabilities: capabilities.into_iter().map(|t| Capability { r#type: Some(t.into()) }).collect(),
        ..FrameworkInfo::default()
    }
}
