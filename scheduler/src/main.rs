//! `calico-scheduler`: see `--help`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context as _;
use calico_scheduler::api::{self, Role};
use calico_scheduler::config::{Config, OPTIONS, Service};
use calico_scheduler::driver::SystemClock;
use calico_scheduler::lead::{Program, Stage};
use calico_scheduler::{mesos, state};
use clap::{Arg, Command};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

/// Takes and gives back the many small pieces of tens of thousands of records faster than the C library, and keeps those of
/// many threads together.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    let mut opener = state::Opener::new(&config.service, &holder(&config.service, address));
    let (role, shown) = watch::channel(Role::Standby("the state is being opened".to_owned()));
    info!(%address, "the API listens");
    let router = api::router(shown, opener.report());
    let api = axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>());
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

/// Leads whenever that is possible. Ends with an error.
async fn lead(config: &Config, opener: &mut state::Opener, role: &watch::Sender<Role>) -> anyhow::Result<()> {
    let access = mesos::Access::new(&config.mesos.identity, &config.mesos.roots)
        .context("cannot use the certificates of mesos.ca-file")?;
    if config.service.reserve_in.is_empty() {
        info!(
            "nothing is reserved: service.reserve is false, or service.role has no role but * and slave_public"
        );
    }
    let masters = &config.mesos.masters;
    let subscribe =
        |framework, tenure: &state::Tenure| mesos::Client::start(masters.clone(), &access, framework, tenure);
    let tell = |stage: Stage<'_, mesos::Client>| drop(role.send_replace(stage.into()));
    Err(Program::new(config).lead(opener, subscribe, SystemClock, tell).await.into())
}

/// Who we are, for other schedulers and their operators.
fn holder(service: &Service, listens: SocketAddr) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    // Where it listens may be all addresses, which nobody can ask.
    let api = service.webui_url.as_deref().map_or_else(
        || format!("http://{host}:{}", listens.port()),
        |url| url.trim_end_matches('/').to_owned(),
    );
    format!("{host}, API on {api}, process {}", std::process::id())
}
