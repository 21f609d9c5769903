//! Credentials of the database engine, used at a real PostgreSQL: no login is refused, the credentials overlap, and the
//! database does not fill with users.
//!
//! One test for each event that ends a credential. `just postgres` lets all of them happen in turn for minutes.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::database::{Database, Logins};
use crate::setup::{SOON, Setup};
use crate::testbed::Agent;

/// Retries fast enough for leases of seconds; the defaults are for leases of minutes.
const RETRY: &str = "retry: {base: 100ms, max: 500ms, slow: 500ms}\n";

/// Time for something that depends on the lifetimes of the test.
const LONG: Duration = Duration::from_secs(60);

fn document(path: &str) -> String {
    format!("sources: {{db: {{path: {path}, engine: other}}}}\n{RETRY}")
}

/// The default overlap of leases of seconds: half of the lease.
fn overlap(ttl: u64) -> Duration {
    Duration::from_secs(ttl) / 2
}

/// Allows the credentials, and the revocation of their leases.
async fn allow(setup: &Setup<'_>, path: &str) -> Result<()> {
    let rules = format!(
        "path \"{path}\" {{ capabilities = [\"read\"] }}\npath \"sys/leases/revoke\" {{ capabilities = [\"update\"] }}\n"
    );
    setup.case.admin.policy(&setup.case.role, &rules).await
}

/// An agent with a checkpoint, as the examples configure it. Another one continues with its credentials.
fn agent(setup: &Setup<'_>, path: &str) -> Result<Agent> {
    let checkpoint = setup.case.directory.parent().context("a parent")?.join("checkpoint").display().to_string();
    setup.agent_with(&["run", "--checkpoint", &checkpoint], &document(path))
}

async fn start(setup: &Setup<'_>, path: &str) -> Result<Agent> {
    let mut agent = agent(setup, path)?;
    let readable = || async { setup.case.read("password").map(drop) };
    agent.wait_for("the files exist", SOON, readable).await?;
    Ok(agent)
}

/// Waits until the files have had this number of users.
async fn users_in_files(agent: &mut Agent, logins: &RefCell<Logins>, number: usize) -> Result<()> {
    let what = format!("the files have had {number} users");
    agent.wait_for(&what, LONG, || async { (logins.borrow().credentials.len() >= number).then_some(()) }).await
}

/// Waits until this number of replaced credentials no longer work.
async fn ended(agent: &mut Agent, logins: &RefCell<Logins>, number: usize) -> Result<()> {
    let what = format!("{number} credentials were replaced and have ended");
    agent.wait_for(&what, LONG, || async { (logins.borrow().overlaps.len() >= number).then_some(()) }).await
}

fn check(logins: &Logins, most_users: usize) -> Result<()> {
    ensure!(logins.refused.is_empty() && logins.unreadable == 0, "{}", logins.summary());
    ensure!(logins.most_users <= most_users, "more than {most_users} users: {}", logins.summary());
    Ok(())
}

fn check_overlaps(logins: &Logins, least: Duration, most: Duration) -> Result<()> {
    let wrong: Vec<_> = logins.overlaps.iter().filter(|overlap| !(least..=most).contains(*overlap)).collect();
    ensure!(wrong.is_empty(), "the old credentials worked for {wrong:?} after the new ones were visible");
    Ok(())
}

#[tokio::test]
async fn logins_succeed_through_renewals_and_maximum_of_lease() -> Result<()> {
    let Some(programs) = Database::programs("logins_succeed_through_renewals_and_maximum_of_lease") else {
        return Ok(());
    };
    Setup::shared("dbmax", async |setup| {
        let database = Database::start(setup, &programs).await?;
        let path = database.dynamic_role(setup, "app", 12, 22).await?;
        allow(setup, &path).await?;
        let mut agent = start(setup, &path).await?;
        let scenario = async |logins: &RefCell<Logins>| {
            agent.wait_for_log("renewed the lease", SOON).await?;
            ended(&mut agent, logins, 1).await?;
            // The user is removed as well, not only expired.
            agent
                .wait_for("one user is left", SOON, || async { (database.users().await.ok()? == 1).then_some(()) })
                .await
        };
        let (logins, ()) = database.logins_during(setup, scenario).await?;
        check(&logins, 2)?;
        check_overlaps(&logins, overlap(12) - Duration::from_secs(1), overlap(12) + Duration::from_secs(5))?;
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn logins_succeed_through_maximum_of_token() -> Result<()> {
    let Some(programs) = Database::programs("logins_succeed_through_maximum_of_token") else { return Ok(()) };
    Setup::shared("dbtoken", async |setup| {
        let database = Database::start(setup, &programs).await?;
        let path = database.dynamic_role(setup, "app", 3600, 7200).await?;
        allow(setup, &path).await?;
        setup.case.vault_role(json!({"token_ttl": "16s", "token_max_ttl": "20s"})).await?;
        let mut agent = start(setup, &path).await?;
        let scenario = async |logins: &RefCell<Logins>| ended(&mut agent, logins, 2).await;
        let (logins, ()) = database.logins_during(setup, scenario).await?;
        check(&logins, 3)?;
        // A credential ends with its token.
        check_overlaps(&logins, overlap(16) - Duration::from_secs(1), Duration::from_secs(20))?;
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn logins_succeed_through_restarts_of_agent() -> Result<()> {
    let Some(programs) = Database::programs("logins_succeed_through_restarts_of_agent") else { return Ok(()) };
    Setup::shared("dbrestart", async |setup| {
        let database = Database::start(setup, &programs).await?;
        let path = database.dynamic_role(setup, "app", 14, 28).await?;
        allow(setup, &path).await?;
        let mut agent = start(setup, &path).await?;
        let scenario = async |logins: &RefCell<Logins>| {
            for round in 0..4 {
                // At different times of the lease.
                tokio::time::sleep(Duration::from_secs(1 + 3 * round)).await;
                if round == 3 {
                    agent.terminate(SOON).await.map(drop)?;
                } else {
                    agent.kill().await?;
                }
                agent = self::agent(setup, &path)?;
                agent.wait_for_log("SecretsFresh", SOON).await?;
            }
            let users = logins.borrow().credentials.len();
            users_in_files(&mut agent, logins, users + 1).await
        };
        let (logins, ()) = database.logins_during(setup, scenario).await?;
        check(&logins, 2)?;
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

/// Stops Vault from `start` to `end`.
async fn stop_vault(setup: &Setup<'_>, start: Instant, end: Instant) -> Result<()> {
    tokio::time::sleep_until(start.into()).await;
    setup.servers.vault.stop().await?;
    tokio::time::sleep_until(end.into()).await;
    setup.servers.vault.start_again(&setup.servers.watchdog).await?;
    println!("Vault was away for {:.1} s", start.elapsed().as_secs_f32());
    Ok(())
}

#[tokio::test]
async fn logins_succeed_while_vault_is_away_for_less_than_overlap() -> Result<()> {
    let Some(programs) = Database::programs("logins_succeed_while_vault_is_away_for_less_than_overlap") else {
        return Ok(());
    };
    Setup::own("dbaway", async |setup| {
        let database = Database::start(setup, &programs).await?;
        let (ttl, max_ttl) = (20, 26);
        let path = database.dynamic_role(setup, "app", ttl, max_ttl).await?;
        allow(setup, &path).await?;
        let mut agent = start(setup, &path).await?;
        let scenario = async |logins: &RefCell<Logins>| {
            // Just before the new credentials are due: the old ones must last until Vault is back, in less than the overlap.
            let end = database.maximum_of_newest_lease(setup, max_ttl).await?;
            stop_vault(setup, end - overlap(ttl), end - Duration::from_secs(4)).await?;
            users_in_files(&mut agent, logins, 2).await?;
            // Past the end of the old credentials: the new ones must be there before Vault goes away.
            let end = database.maximum_of_newest_lease(setup, max_ttl).await?;
            let start = end - overlap(ttl) + Duration::from_secs(1);
            tokio::time::sleep_until(start.into()).await;
            ensure!(logins.borrow().credentials.len() >= 3, "no new credentials {:?} before the end", end - start);
            stop_vault(setup, start, end).await?;
            ended(&mut agent, logins, 2).await
        };
        let (logins, ()) = database.logins_during(setup, scenario).await?;
        check(&logins, 3)?;
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

/// All events in turn, for as many minutes as `POSTGRES_MINUTES` says.
#[tokio::test]
async fn logins_succeed_for_minutes() -> Result<()> {
    let Some(minutes) = std::env::var("POSTGRES_MINUTES").ok().and_then(|minutes| minutes.parse::<f64>().ok()) else {
        println!("POSTGRES_MINUTES is not set; run `just postgres MINUTES`");
        return Ok(());
    };
    let Some(programs) = Database::programs("logins_succeed_for_minutes") else { return Ok(()) };
    Setup::own("dbsoak", async |setup| {
        let database = Database::start(setup, &programs).await?;
        let (ttl, max_ttl) = (20, 30);
        let path = database.dynamic_role(setup, "app", ttl, max_ttl).await?;
        allow(setup, &path).await?;
        setup.case.vault_role(json!({"token_ttl": "45s", "token_max_ttl": "90s"})).await?;
        let mut agent = start(setup, &path).await?;
        let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
        let scenario = async |logins: &RefCell<Logins>| {
            for round in 0.. {
                // Everything in the middle happens by itself: renewals, the maximum of the lease, and of the token.
                tokio::time::sleep(Duration::from_secs(fastrand::u64(5..20))).await;
                if Instant::now() > end {
                    break;
                }
                println!("{}", logins.borrow().summary());
                match round % 3 {
                    0 => agent.kill().await?,
                    1 => agent.terminate(SOON).await.map(drop)?,
                    _ => {
                        let now = Instant::now();
                        stop_vault(setup, now, now + overlap(ttl) - Duration::from_secs(5)).await?;
                        continue;
                    }
                }
                agent = self::agent(setup, &path)?;
            }
            Ok(())
        };
        let (logins, ()) = database.logins_during(setup, scenario).await?;
        check(&logins, 3)?;
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}
