//! Static roles of the database engine, whose password Vault rotates, used at a real PostgreSQL.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::database::{Database, Logins};
use crate::leased::allow;
use crate::setup::{SOON, Setup};

/// Vault rotates due passwords every five seconds, so a password changes 10 s after the one before, 3 s after it was due.
const PERIOD: u64 = 7;

#[tokio::test]
async fn files_follow_rotation_of_static_role() -> Result<()> {
    let Some(programs) = Database::programs("files_follow_rotation_of_static_role") else { return Ok(()) };
    Setup::shared("dbstatic", async |setup| {
        let database = Database::start(setup, &programs).await?;
        let path = database.static_role(setup, "service", PERIOD).await?;
        allow(setup, &[&path]).await?;
        // With the default refresh interval of a minute: only the TTL of the password makes the agent follow.
        let mut agent = setup.agent_with(&["run"], &format!("sources: {{db: {{path: {path}, engine: other}}}}\n"))?;
        let readable = || async { setup.case.read("password").map(drop) };
        agent.wait_for("the files exist", SOON, readable).await?;
        let scenario = async |logins: &RefCell<Logins>| {
            let passwords = || async { (logins.borrow().credentials.len() >= 4).then_some(()) };
            agent.wait_for("the password was rotated three times", Duration::from_secs(60), passwords).await
        };
        let (logins, ()) = database.logins_during(setup, scenario).await?;
        // Vault changes the password before anyone can read it. This gap is as long as the interval between reads.
        ensure!(logins.longest_gap < Duration::from_secs(2), "{}", logins.summary());
        ensure!(logins.unreadable == 0, "{}", logins.summary());
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn rotation_by_operator_is_followed_within_refresh() -> Result<()> {
    let Some(programs) = Database::programs("rotation_by_operator_is_followed_within_refresh") else { return Ok(()) };
    Setup::shared("dbrotate", async |setup| {
        let database = Database::start(setup, &programs).await?;
        let path = database.static_role(setup, "service", 3600).await?;
        allow(setup, &[&path]).await?;
        let document = format!("sources: {{db: {{path: {path}, engine: other, refresh: 2s}}}}\n");
        let mut agent = setup.agent_with(&["run"], &document)?;
        let readable = || async { setup.case.read("password").map(drop) };
        agent.wait_for("the files exist", SOON, readable).await?;
        let old = setup.case.read("password").context("a password")?;
        let (_, ()) = database
            .logins_during(setup, async |logins| {
                setup.case.admin.put(&format!("{}/rotate-role/service", database.mount), json!({})).await?;
                let followed = || async { (logins.borrow().credentials.len() >= 2).then_some(()) };
                agent.wait_for("the files have the new password", Duration::from_secs(4), followed).await
            })
            .await?;
        let new = setup.case.read("password").context("a password")?;
        database.postgres.log_in("service", &new).await?;
        ensure!(old != new && database.postgres.log_in("service", &old).await.is_err());
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}
