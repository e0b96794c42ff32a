//! Over D-Bus: `org.freedesktop.systemd1`.

use futures::StreamExt;
use zbus::proxy::CacheProperties;
use zbus::{Connection, OwnedObjectPath, proxy};

use super::{CALL_LIMIT, JobResult, Unit};

/// `ExecStart`: path, words, whether failure is ignored, then times and the process of the last run.
type Exec = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    fn reload(&self) -> zbus::Result<()>;
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String) -> zbus::Result<()>;
}

#[proxy(interface = "org.freedesktop.systemd1.Unit", default_service = "org.freedesktop.systemd1")]
trait LoadedUnit {
    #[zbus(property)]
    fn load_state(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn active_state(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn fragment_path(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn drop_in_paths(&self) -> zbus::Result<Vec<String>>;
}

#[proxy(interface = "org.freedesktop.systemd1.Service", default_service = "org.freedesktop.systemd1")]
trait Service {
    #[zbus(property)]
    fn result(&self) -> zbus::Result<String>;
    #[zbus(property, name = "MainPID")]
    fn main_pid(&self) -> zbus::Result<u32>;
    #[zbus(property)]
    fn exec_main_start_timestamp_monotonic(&self) -> zbus::Result<u64>;
    #[zbus(property)]
    fn exec_start(&self) -> zbus::Result<Vec<Exec>>;
    #[zbus(property)]
    fn environment(&self) -> zbus::Result<Vec<String>>;
    #[zbus(property)]
    fn environment_files(&self) -> zbus::Result<Vec<(String, bool)>>;
    #[zbus(property)]
    fn kill_mode(&self) -> zbus::Result<String>;
}

/// A connection to the system's bus.
#[derive(Debug)]
pub struct Bus {
    connection: Connection,
}

impl Bus {
    pub(super) async fn connect() -> zbus::Result<Self> {
        let connection = zbus::connection::Builder::system().build();
        let connection = tokio::time::timeout(CALL_LIMIT, connection).await.map_err(|_| {
            zbus::Error::Failure(format!("the bus does not answer within {} s", CALL_LIMIT.as_secs()))
        })??;
        Ok(Self { connection })
    }

    async fn manager(&self) -> zbus::Result<ManagerProxy<'_>> {
        ManagerProxy::new(&self.connection).await
    }

    pub(super) async fn unit(&self, name: &str) -> zbus::Result<Unit> {
        let path = self.manager().await?.load_unit(name).await?;
        let unit = LoadedUnitProxy::builder(&self.connection)
            .path(path.clone())
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        let load_state = unit.load_state().await?;
        if load_state == "not-found" {
            return Ok(Unit { load_state, ..Unit::default() });
        }
        let service = ServiceProxy::builder(&self.connection)
            .path(path)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        let files = [unit.fragment_path().await?].into_iter().chain(unit.drop_in_paths().await?);
        Ok(Unit {
            load_state,
            active_state: unit.active_state().await?,
            result: service.result().await?,
            main_pid: service.main_pid().await?,
            started: service.exec_main_start_timestamp_monotonic().await?,
            exec_start: service.exec_start().await?.into_iter().map(|exec| exec.1).collect(),
            environment: service.environment().await?,
            environment_files: service.environment_files().await?.into_iter().map(|(path, _)| path).collect(),
            files: files.filter(|path| !path.is_empty()).collect(),
            kill_mode: service.kill_mode().await?,
        })
    }

    pub(super) async fn kill_main(&self, name: &str, signal: i32) -> zbus::Result<()> {
        self.manager().await?.kill_unit(name, "main", signal).await
    }

    pub(super) async fn reload(&self) -> zbus::Result<()> {
        self.manager().await?.reload().await
    }

    pub(super) async fn restart(&self, name: &str) -> zbus::Result<JobResult> {
        let manager = self.manager().await?;
        // Without a subscription there are no signals; they are awaited from before the job is there.
        manager.subscribe().await?;
        let mut removed = manager.receive_job_removed().await?;
        // One that has not failed is no reason to stop here.
        let _ = manager.reset_failed_unit(name).await;
        let job = manager.restart_unit(name, "replace").await?;
        while let Some(signal) = removed.next().await {
            let arguments = signal.args()?;
            if arguments.job == job {
                return Ok(JobResult::from(arguments.result.as_str()));
            }
        }
        Err(zbus::Error::Failure("the bus closed the connection".to_owned()))
    }
}
