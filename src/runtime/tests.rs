//! The main loop with adapters that block: the process exits in time.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc::Sender;

use super::adapters::{Adapters, ApiServer, Checkpoints, Notifier, Server, Volume};
use super::blocking::blocking;
use super::clock::SystemClock;
use super::driver::{Driver, Start};
use super::signals::SignalStream;
use super::{ConfigSource, Work};
use crate::agent::{MirrorRequest, MirrorResult, PublishedSet, exit, exit_code};
use crate::config;
use crate::model::{
    AdoptedSet, Auth, Checkpoint, Condition, Directory, Failure, FailureClass, Lease, LeaseId, Notification,
    ObjectName, PodEvent, Reading, Reason, SeedData, ServerEvent, Session, Settings, Source, TokenInfo, VaultToken,
};

/// The call that blocks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blocked {
    /// Opening the directory blocks, as on a mount whose server is down.
    Open,
    /// Reading the credential blocks.
    Credential,
    /// Publishing blocks.
    Publish,
}

/// Adapters of which one call blocks until the test ends.
struct World {
    blocked: Blocked,
    end: Arc<(Mutex<bool>, Condvar)>,
}

impl World {
    /// Blocks the thread until the test is over.
    fn block(&self) {
        let (over, changed) = &*self.end;
        let mut over = over.lock().expect("not poisoned");
        while !*over {
            over = changed.wait(over).expect("not poisoned");
        }
    }
}

fn refused<T>() -> Result<T, Failure> {
    Err(Failure::new(FailureClass::Unreachable, Reason::VaultUnreachable, "not available in this test"))
}

impl Server for World {
    type Credential = ();

    fn read_credential(&self, _: &Auth) -> Result<(), Failure> {
        if self.blocked == Blocked::Credential {
            self.block();
        }
        Ok(())
    }

    fn needs_files(&self) -> bool {
        false
    }

    fn read_files(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn unwrap_credential(&self, _: &Auth, (): ()) -> Result<((), bool), Failure> {
        Ok(((), false))
    }

    async fn log_in(&self, _: &Auth, (): ()) -> Result<Session, Failure> {
        let info = TokenInfo { ttl: None, renewable: false };
        Ok(Session { token: VaultToken::new("hvs.planted"), info, self_issued: true, lookup_denied: false })
    }

    async fn look_up(&self, _: &VaultToken) -> Result<TokenInfo, Failure> {
        refused()
    }

    async fn renew_token(&self, _: &VaultToken) -> Result<TokenInfo, Failure> {
        refused()
    }

    async fn revoke(&self, _: &VaultToken) -> Result<(), Failure> {
        Ok(())
    }

    async fn read(&self, _: &VaultToken, _: &Source) -> Result<Reading, Failure> {
        let data = std::collections::BTreeMap::from([("a".into(), crate::model::SecretValue::Text("b".into()))]);
        let (version, validity) = (crate::model::Version::default(), crate::model::Validity::Unlimited);
        Ok(Reading { data, version, validity, warnings: Vec::new(), ..Reading::default() })
    }

    async fn look_up_lease(&self, _: &VaultToken, _: &LeaseId) -> Result<(), Failure> {
        unreachable!()
    }

    async fn revoke_lease(&self, _: &VaultToken, _: &LeaseId) -> Result<(), Failure> {
        unreachable!()
    }

    async fn renew_lease(&self, _: &VaultToken, _: &LeaseId, _: Duration) -> Result<Lease, Failure> {
        refused()
    }

    async fn subscribe(&self, _: &VaultToken, _: &Sender<ServerEvent>) -> Result<(), Failure> {
        unreachable!()
    }
}

impl ApiServer for World {
    async fn mirror(&self, _: &Settings, _: &ObjectName, _: &MirrorRequest) -> Result<MirrorResult, Failure> {
        refused()
    }

    async fn patch_conditions(&self, _: &Settings, _: &[Condition]) -> Result<bool, Failure> {
        refused()
    }

    async fn record_event(&self, _: &Settings, _: &PodEvent) -> Result<(), Failure> {
        refused()
    }
}

impl Volume for World {
    fn open(&self, _: &Directory) -> Result<Option<AdoptedSet>, Failure> {
        if self.blocked == Blocked::Open {
            self.block();
        }
        Ok(None)
    }

    fn publish(&self, _: &Directory, _: &PublishedSet) -> Result<bool, Failure> {
        if self.blocked == Blocked::Publish {
            self.block();
        }
        Ok(true)
    }

    fn read_seed(&self, _: &std::path::Path) -> Result<SeedData, Failure> {
        Ok(SeedData::new())
    }

    fn retire(&self, _: &Directory) -> Result<(), Failure> {
        Ok(())
    }
}

impl Checkpoints for World {
    fn load(&self, _: &Settings) -> Result<Option<Box<Checkpoint>>, Failure> {
        Ok(None)
    }

    fn save(&self, _: &Settings, _: &Checkpoint) -> Result<(), Failure> {
        Ok(())
    }

    fn save_credentials(&self, _: &Settings) -> Result<(), Failure> {
        Ok(())
    }
}

impl Notifier for World {
    async fn notify(&self, _: &Notification, _: u64) -> Result<(), Failure> {
        Ok(())
    }
}

/// Uses one [`World`] as all adapters.
struct Shared(Arc<World>);

impl Adapters for Shared {
    type Server = World;
    type Api = World;
    type Volume = World;
    type Checkpoints = World;
    type Notifier = World;
    type Clock = SystemClock;

    fn server(&self, _: &Settings) -> Result<Arc<World>, Failure> {
        Ok(Arc::clone(&self.0))
    }

    fn api(&self) -> Arc<World> {
        Arc::clone(&self.0)
    }

    fn volume(&self) -> Arc<World> {
        Arc::clone(&self.0)
    }

    fn checkpoints(&self) -> Arc<World> {
        Arc::clone(&self.0)
    }

    fn notifier(&self) -> Arc<World> {
        Arc::clone(&self.0)
    }

    fn clock(&self) -> Arc<SystemClock> {
        Arc::new(SystemClock::start())
    }

    fn requests(&self) -> u64 {
        0
    }
}

/// Runs the agent, and sends SIGTERM after `signal`. Returns the exit code and the run time.
fn run(blocked: Blocked, work: Work, signal: Option<Duration>) -> (u8, Duration) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().display();
    let document = format!(
        "vault: {{address: 'http://127.0.0.1:1'}}\nauth: {{role: webapp}}\nsources: {{a: {{path: secret/a}}}}\n\
         directory: {{path: {path}/files, allowDisk: true}}\ndrain: 1s\n"
    );
    let empty: HashMap<String, String> = HashMap::new();
    let settings = config::load(&empty, Some(&document)).unwrap_or_else(|error| panic!("{error}"));
    let end = Arc::new((Mutex::new(false), Condvar::new()));
    let world = Arc::new(Shared(Arc::new(World { blocked, end: Arc::clone(&end) })));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let started = Instant::now();
    let code = runtime.block_on(async move {
        let (signals, [mut term, hup, usr1]) = SignalStream::for_test().expect("streams");
        let start = Start {
            settings: Arc::new(settings),
            config: ConfigSource::fixed(None),
            environment: Box::new(empty),
            work,
            checkpoint: false,
        };
        tokio::spawn(async move {
            if let Some(after) = signal {
                tokio::time::sleep(after).await;
                term.write_all(&[1]).await.expect("the agent listens");
            }
            // Keep the sockets open, as the process does.
            std::future::pending::<()>().await;
            drop((term, hup, usr1));
        });
        Driver::new(start, world).drive(signals).await.unwrap_or_else(|failure| panic!("{failure}"))
    });
    let took = started.elapsed();
    runtime.shutdown_background();
    *end.0.lock().expect("not poisoned") = true;
    end.1.notify_all();
    (code, took)
}

#[test]
fn sigterm_exits_despite_blocked_call() {
    let table = [
        (Blocked::Open, exit::TERMINATED),
        (Blocked::Credential, exit::TERMINATED),
        (Blocked::Publish, exit::TERMINATED),
    ];
    for (blocked, expected) in table {
        let (code, took) = run(blocked, Work::Run { app_container: false }, Some(Duration::from_millis(100)));
        assert_eq!(code, expected);
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
}

#[tokio::test]
async fn panic_in_a_blocking_call_is_an_internal_error() {
    let failure =
        blocking("publish files", || -> Result<(), Failure> { panic!("planted") }).await.expect_err("a panic");
    assert_eq!((failure.reason, exit_code(&failure)), (Reason::Internal, exit::INTERNAL));
    assert!(failure.message.starts_with("failed to publish files: internal error ("), "{failure}");
}

#[test]
fn once_respects_timeout_despite_blocked_call() {
    for blocked in [Blocked::Open, Blocked::Credential, Blocked::Publish] {
        let (code, took) = run(blocked, Work::Once(Duration::from_millis(200)), None);
        assert!(code == exit::UNAVAILABLE || code == exit::IO, "{code}");
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
}
