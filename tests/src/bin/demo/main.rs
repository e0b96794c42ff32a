//! `make demo`: a real local cluster, Calico installed on it as an operator would, and shown to work.

mod table;

use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use cluster::marathon::Scheduler;
use cluster::{Cluster, Error, Progress, Spec, product, programs, proof};
use serde_json::json;
use table::Table;

const NAME: &str = "demo";
const INSTALL: Duration = Duration::from_mins(5);
/// The real cluster cannot run on this machine.
const CANNOT_RUN: u8 = 3;

fn main() -> ExitCode {
    // Files of the base image and the hosts are read by users other than root, whatever the caller's umask.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    match clean_up_on_interrupt().and_then(|()| demo()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            match error.downcast_ref() {
                Some(Error::Missing(_)) => ExitCode::from(CANNOT_RUN),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Ctrl-C, SIGTERM and a terminal that is closed become `cluster down`, in this process's place: whatever it held is
/// free then.
fn clean_up_on_interrupt() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let program = programs::find("cluster")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Taken over here, before anything is begun.
    let (mut interrupt, mut terminate, mut hangup) = {
        let _guard = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        // Where the terminal is gone nobody reads this.
        let _ = writeln!(io::stderr(), "\ncleaning up …");
        let script = r#"trap '' INT TERM HUP; "$0" --name "$1" down; exit 130"#;
        let error = Command::new("sh").args(["-c", script]).arg(program).arg(NAME).exec();
        let _ = writeln!(io::stderr(), "demo: cannot clean up: {error}; run `make demo-down`");
        std::process::exit(1);
    });
    Ok(())
}

fn demo() -> Result<()> {
    let progress = Progress::stderr();
    progress.line("a local cluster: etcd, a Mesos master, three agent hosts with systemd and Docker");
    let cluster = Cluster::up(&Spec { name: NAME.to_owned(), ..Spec::default() }, &progress)?;
    if let Err(error) = install_and_prove(&cluster, &progress) {
        progress.line(format!("taking it down; its logs are in {}", cluster.keep_logs().display()));
        return Err(error);
    }
    if io::stdin().is_terminal() {
        println!("Ctrl-C, or `make demo-down` elsewhere, ends it.");
        // The thread that waits for Ctrl-C ends this process; `demo-down` takes the cluster away under it.
        while Cluster::attach(NAME).is_ok() {
            std::thread::sleep(Duration::from_secs(1));
        }
        return Ok(());
    }
    cluster.down().context("cannot clean up; run `make demo-down`")
}

fn install_and_prove(cluster: &Cluster, progress: &Progress) -> Result<()> {
    progress.line("`dcos package install calico`: the package is rendered, and Marathon's stand-in runs it");
    let scheduler = product::install(cluster, &product::with_docker(&json!({})))?;
    let started = Instant::now();
    watch(cluster, &scheduler)?;
    progress.line(format!(
        "Calico is on every agent, {:.1} s after the install",
        started.elapsed().as_secs_f32()
    ));
    let tell = |proof| progress.line(format!("shown: {proof}"));
    proof::prove(cluster, "calico", tell)?;
    proof::prove_docker(cluster, "calico", tell)?;
    let api = scheduler.api().address();
    println!(
        "\nEvery proof held. The API: http://{api}/v1/plans/deploy and http://{api}/v1/agents\n\
         Logs: {logs}/scheduler.log and others; a host's: `{cluster} --name {NAME} logs host1`\n\
         A shell in a host: `{cluster} --name {NAME} exec host1 bash`",
        logs = cluster.run_dir().join("logs").display(),
        cluster = programs::find("cluster")?.display(),
    );
    Ok(())
}

/// Shows agents and steps until all are complete.
fn watch(cluster: &Cluster, scheduler: &Scheduler<'_>) -> Result<()> {
    let agents = cluster.hosts()?.len();
    let mut table = Table::new();
    let started = Instant::now();
    loop {
        if !scheduler.process().is_running() {
            bail!("the scheduler has ended:\n{}", scheduler.process().log()?);
        }
        let (status, plan) = scheduler.api().deploy()?;
        table.show(&plan)?;
        let all = plan.phases.iter().any(|phase| phase.steps.len() == agents);
        if status == 200 && all {
            return Ok(());
        }
        if started.elapsed() > INSTALL {
            bail!("the install is not complete after {} s: {}", INSTALL.as_secs(), plan.summary());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
