//! A test of the leak test: it searches every output.

use anyhow::Result;

use crate::setup::{QUICK, SOON, Setup};

#[tokio::test]
async fn leak_test_searches_every_output() -> Result<()> {
    Setup::shared("leaks", async |setup| {
        let listen = format!("127.0.0.1:{}", crate::testbed::free_port()?);
        let changes = [QUICK[0], ("KEYFERRY_LISTEN", listen.as_str())];
        let mut early = setup.agent(&["probe", "ready"], &changes)?;
        early.wait(SOON).await?;
        let mut agent = setup.agent(&["run"], &changes)?;
        setup.condition_is(&mut agent, "Mirrored", "True", "Mirrored").await?;
        agent
            .wait_for("an Event exists", SOON, || async {
                setup.case.cluster.events(&setup.case.namespace).await.is_ok_and(|all| !all.is_empty()).then_some(())
            })
            .await?;
        let mut help = setup.agent(&["--help"], &[])?;
        help.wait(SOON).await?;
        agent.kill().await?;
        drop((early, agent, help));

        let seen = setup.case.seen().await?;
        for (place, text) in [
            ("keyferry run: log", "logged in to Vault"),
            ("keyferry run: environ", "KEYFERRY_SECRETS="),
            ("keyferry run: /metrics", "keyferry_vault_requests_total"),
            ("keyferry run: /readyz", "200 OK"),
            ("keyferry run: /livez", "200 OK"),
            ("keyferry probe ready: log", "failed to query the agent"),
            ("keyferry --help: stdout", "Usage"),
            ("a condition", "all required outputs are published"),
            ("an Event", "published generation"),
            ("the metadata of the Secret", "keyferry.dev/"),
            ("the state for probes", "\"ready\":true"),
            ("the names of the files", "password -> ..data/password"),
        ] {
            if text == "KEYFERRY_SECRETS=" && !rustix::process::geteuid().is_root() {
                continue; // Only root can read it, because the agent is not dumpable.
            }
            let found = seen.iter().any(|seen| seen.place == place && seen.text.contains(text));
            assert!(found, "{text:?} is missing in {place}: {seen:#?}");
        }
        Ok(())
    })
    .await
}
