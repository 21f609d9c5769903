//! `once` with leases: what it says about their end, and what it leaves behind.

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::json;

use crate::leased::{Leased, allow, data_path};
use crate::setup::{SOON, Setup};
use crate::testbed::reference_scenario::SECRET;

const RETRY: &str = "retry: {base: 50ms, max: 100ms, slow: 100ms}\n";

/// A lease of an hour, and the source `db` for it.
async fn source(setup: &Setup<'_>) -> Result<(Leased, String)> {
    let leased = Leased::new(setup).await?;
    leased.put(setup, json!({"password": "auf-Zeit", "ttl": "1h"})).await?;
    allow(setup, &[&leased.path(), &data_path(setup, "*")]).await?;
    let source = format!("sources:\n  db: {{path: {}, engine: kv-v1}}\n", leased.path());
    Ok((leased, source))
}

#[tokio::test]
async fn once_logs_when_its_credentials_expire() -> Result<()> {
    Setup::shared("onceexpiry", async |setup| {
        let (leased, source) = source(setup).await?;
        for (token_ttl, level, expected) in
            [("60s", "warn", "expire with the Vault token in "), ("2h", "info", "expire in 3")]
        {
            let before = leased.alive(setup).await?;
            setup.case.vault_role(json!({"token_ttl": token_ttl})).await?;
            let mut once = setup.agent_with(&["once"], &source)?;
            ensure!(once.wait(SOON).await?.code() == Some(0), "{}", once.report());
            let line = once.log().into_iter().find(|line| line.contains(expected)).with_context(|| once.report())?;
            println!("{line}");
            assert!(line.contains(&format!("\"{level}\"")) && line.contains("source db"), "{line}");
            assert_eq!(leased.alive(setup).await?, before + 1, "the lease stays valid for the application");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn failed_once_leaves_no_token_and_no_lease() -> Result<()> {
    Setup::shared("oncefailed", async |setup| {
        let (leased, source) = source(setup).await?;
        // Not managed by keyferry.
        let foreign = format!("{{apiVersion: v1, kind: Secret, metadata: {{name: {SECRET}}}}}");
        setup.case.cluster.apply(&setup.case.namespace, &foreign).await?;
        let absent = setup.case.directory.with_file_name("absent").join("checkpoint").display().to_string();
        let missing = format!("  missing: {{path: {}/webapp/absent}}\n", setup.case.kv_mount);
        let prefixes = "outputs: [{source: db, prefix: db}, {source: missing, prefix: missing}]\n";
        let cases: [(&str, String, &[&str], i32); 5] = [
            ("a secret does not exist", format!("{missing}{prefixes}"), &[], 66),
            ("an output cannot be rendered", "outputs: [{source: db, key: absent}]\n".into(), &[], 66),
            ("the volume is full", "directory: {maxBytes: 1}\n".into(), &["--timeout=3s"], 74),
            ("the mirror is refused", format!("mirrors: {{{SECRET}: {{allowLeased: true}}}}\n"), &[], 73),
            ("the checkpoint cannot be written", String::new(), &["--checkpoint", &absent], 74),
        ];
        for (what, rest, arguments, code) in cases {
            let arguments = [&["once"], arguments].concat();
            let mut once = setup.agent_with(&arguments, &format!("{source}{rest}{RETRY}"))?;
            assert_eq!(once.wait(SOON).await?.code(), Some(code), "{what}: {}", once.report());
            let tokens = setup.case.admin.accessors_of(&setup.case.auth_mount).await?.len();
            assert_eq!((tokens, leased.alive(setup).await?), (0, 0), "{what}: {}", once.report());
        }

        // Deleting the pod during the init container.
        let document = format!("{source}{missing}{prefixes}retry: {{slow: 1m}}\n");
        let mut once = setup.agent_with(&["once"], &document)?;
        once.wait_for("the lease is issued", SOON, || async { (leased.alive(setup).await.ok()? > 0).then_some(()) })
            .await?;
        once.signal(Signal::TERM)?;
        assert_eq!(once.wait(SOON).await?.code(), Some(143), "{}", once.report());
        let tokens = setup.case.admin.accessors_of(&setup.case.auth_mount).await?.len();
        assert_eq!((tokens, leased.alive(setup).await?), (0, 0), "after SIGTERM: {}", once.report());
        Ok(())
    })
    .await
}
