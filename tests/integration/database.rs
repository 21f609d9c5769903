//! The database engine of Vault on a real PostgreSQL, and an application that logs in with what the files say.

use std::cell::RefCell;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use crate::setup::Setup;
use crate::testbed::postgres::{Postgres, credentials, dynamic_role, installed};

/// Interval between two logins of the application.
const EVERY: Duration = Duration::from_millis(100);

/// A PostgreSQL server and a mount of the database engine for it.
pub struct Database {
    pub postgres: Postgres,
    pub mount: String,
}

impl Database {
    /// The programs for `start`; `None` if the test is skipped.
    pub fn programs(test: &str) -> Option<PathBuf> {
        installed(test)
    }

    pub async fn start(setup: &Setup<'_>, programs: &Path) -> Result<Self> {
        Self::start_at(setup, programs, &format!("database-{}", setup.case.kv_mount)).await
    }

    /// As `start`, with this path of the mount.
    pub async fn start_at(setup: &Setup<'_>, programs: &Path, mount: &str) -> Result<Self> {
        let postgres = Postgres::start(programs, &setup.servers.watchdog, Ok).await?;
        setup.case.leaks.plant(postgres.superuser_password());
        postgres.mount(&setup.servers.vault, mount).await?;
        Ok(Self { postgres, mount: mount.to_owned() })
    }

    /// Creates a role, whose credentials have this TTL, in seconds, and this maximum. Returns the path of the credentials.
    pub async fn dynamic_role(&self, setup: &Setup<'_>, name: &str, ttl: u64, max_ttl: u64) -> Result<String> {
        dynamic_role(&setup.case.admin, &self.mount, name, ttl, max_ttl).await?;
        Ok(format!("{}/creds/{name}", self.mount))
    }

    /// Creates a static role for a new user of that name, whose password Vault rotates after this period, in seconds. Returns the
    /// path of the credentials.
    pub async fn static_role(&self, setup: &Setup<'_>, name: &str, period: u64) -> Result<String> {
        self.postgres.execute(&format!("CREATE ROLE {name} LOGIN")).await?;
        let role = json!({"db_name": "postgres", "username": name, "rotation_period": period});
        setup.case.admin.put(&format!("{}/static-roles/{name}", self.mount), role).await?;
        Ok(format!("{}/static-creds/{name}", self.mount))
    }

    /// Number of users that Vault has created and not yet removed.
    pub async fn users(&self) -> Result<usize> {
        Ok(self.postgres.roles("v-%").await?.len())
    }

    /// When the newest lease of the role `app` reaches its maximum TTL.
    pub async fn maximum_of_newest_lease(&self, setup: &Setup<'_>, max_ttl: u64) -> Result<Instant> {
        let admin = &setup.case.admin;
        let prefix = format!("{}/creds/app", self.mount);
        let leases = admin.list(&format!("sys/leases/lookup/{prefix}")).await?;
        let mut newest = None;
        for lease in leases["data"]["keys"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let lease = admin.put("sys/leases/lookup", json!({"lease_id": format!("{prefix}/{lease}")})).await?;
            let issued: Timestamp = lease["data"]["issue_time"].as_str().context("an issue time")?.parse()?;
            newest = newest.max(Some(issued));
        }
        let age = Duration::try_from(newest.context("a lease")?.duration_until(Timestamp::now())).unwrap_or_default();
        Ok(Instant::now() + Duration::from_secs(max_ttl).saturating_sub(age))
    }

    /// Uses the credentials in the files, as an application without a connection pool does, while `scenario` runs.
    pub async fn logins_during<T>(
        &self,
        setup: &Setup<'_>,
        scenario: impl AsyncFnOnce(&RefCell<Logins>) -> Result<T>,
    ) -> Result<(Logins, T)> {
        let logins = RefCell::new(Logins::default());
        let result = tokio::select! {
            result = scenario(&logins) => result,
            never = self.use_files(&setup.case.directory, &logins) => match never {},
            never = self.use_replaced(&logins) => match never {},
            never = self.count_users(&logins) => match never {},
        };
        let logins = logins.into_inner();
        for (_, password) in logins.credentials.iter() {
            setup.case.leaks.plant(password);
        }
        println!("{}", logins.summary());
        Ok((logins, result?))
    }

    /// Logs in every 100 ms with what the files say.
    async fn use_files(&self, directory: &Path, logins: &RefCell<Logins>) -> Infallible {
        let start = Instant::now();
        let mut refused_since = None;
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tick.tick().await;
            let Ok(read) = credentials(&directory.join("..data")) else {
                logins.borrow_mut().unreadable += 1;
                continue;
            };
            if logins.borrow_mut().credentials.insert(&read) {
                println!("after {:.1} s the files contain {}", start.elapsed().as_secs_f32(), read.0);
            }
            let begun = Instant::now();
            let result = self.postgres.log_in(&read.0, &read.1).await;
            let mut logins = logins.borrow_mut();
            logins.attempts += 1;
            if let Err(error) = result {
                let gap = refused_since.get_or_insert(begun).elapsed();
                logins.longest_gap = logins.longest_gap.max(gap);
                let cause = error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
                logins.refused.push(format!("after {:.1} s: {cause}", start.elapsed().as_secs_f32()));
            } else {
                refused_since = None;
            }
        }
    }

    /// Measures how long replaced credentials still work.
    async fn use_replaced(&self, logins: &RefCell<Logins>) -> Infallible {
        let mut next = 0;
        loop {
            tokio::time::sleep(EVERY).await;
            let replaced = logins.borrow().credentials.replaced(next);
            let Some(((user, password), since)) = replaced else { continue };
            while self.postgres.log_in(&user, &password).await.is_ok() {
                tokio::time::sleep(EVERY).await;
            }
            let overlap = since.elapsed();
            println!("{user} worked for {:.1} s after it was replaced", overlap.as_secs_f32());
            logins.borrow_mut().overlaps.push(overlap);
            next += 1;
        }
    }

    async fn count_users(&self, logins: &RefCell<Logins>) -> Infallible {
        loop {
            if let Ok(users) = self.users().await {
                let mut logins = logins.borrow_mut();
                logins.most_users = logins.most_users.max(users);
            }
            tokio::time::sleep(EVERY * 5).await;
        }
    }
}

/// What the application saw.
#[derive(Default)]
pub struct Logins {
    pub attempts: usize,
    /// Time and cause of each refused login.
    pub refused: Vec<String>,
    /// Longest time for which every login was refused.
    pub longest_gap: Duration,
    /// How often the files could not be read.
    pub unreadable: usize,
    pub credentials: Credentials,
    /// How long each of the replaced credentials still worked, as far as it no longer does.
    pub overlaps: Vec<Duration>,
    /// Largest number of users of Vault in the database at one time.
    pub most_users: usize,
}

impl Logins {
    pub fn summary(&self) -> String {
        let shown = self.refused.len().min(5);
        format!(
            "{} logins with {} credentials, {} refused (for {:.1} s at most), {} times no files, at most {} users in the \
             database\n{}",
            self.attempts,
            self.credentials.len(),
            self.refused.len(),
            self.longest_gap.as_secs_f32(),
            self.unreadable,
            self.most_users,
            self.refused[..shown].join("\n")
        )
    }
}

/// All user names and passwords that were in the files, and since when.
#[derive(Default)]
pub struct Credentials(Vec<((String, String), Instant)>);

impl Credentials {
    /// Returns whether the credentials are new.
    fn insert(&mut self, read: &(String, String)) -> bool {
        let is_new = self.0.iter().all(|(known, _)| known != read);
        if is_new {
            self.0.push((read.clone(), Instant::now()));
        }
        is_new
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    fn iter(&self) -> impl Iterator<Item = &(String, String)> {
        self.0.iter().map(|(credentials, _)| credentials)
    }

    /// The credentials of this number, and since when others are in the files.
    fn replaced(&self, number: usize) -> Option<((String, String), Instant)> {
        let (credentials, _) = self.0.get(number)?;
        let (_, since) = self.0.get(number + 1)?;
        Some((credentials.clone(), *since))
    }
}
