//! Supplied tokens, tokens with few permissions, and their expiry.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::leased::{Leased, allow, data_path};
use crate::proxy::Proxy;
use crate::setup::{SOON, Setup, configured_by, supplied_token};

#[tokio::test]
async fn denied_source_without_lookup_permission_causes_no_logins() -> Result<()> {
    Setup::shared("nolookup", async |setup| {
        let leased = Leased::new(setup).await?;
        leased.put(setup, json!({"password": "auf-Zeit", "ttl": "1h"})).await?;
        allow(setup, &[&leased.path()]).await?;
        setup.case.vault_role(json!({"token_no_default_policy": true, "token_ttl": "1h"})).await?;
        let proxy = Proxy::counting(setup.servers.vault.address()).await?;
        let document = format!(
            "vault: {{address: \"{}\"}}\nretry: {{slow: 5s}}\nsources:\n  db: {{path: {}, engine: kv-v1}}\n  \
             other: {{path: {}/forbidden, engine: kv-v2, required: false}}\n",
            proxy.url(),
            leased.path(),
            setup.case.kv_mount
        );
        let mut agent = setup.agent_with(&["run"], &document)?;
        setup.file_is(&mut agent, "password", "auf-Zeit").await?;
        agent.wait_for_log("allow the token to read auth/token/lookup-self", SOON).await?;
        // Sleep longer than the time after which the agent suspects that a token is invalid.
        tokio::time::sleep(Duration::from_secs(33)).await;
        let (logins, lookups) = (proxy.count("/login"), proxy.count("lookup-self"));
        let denied = proxy.count("forbidden");
        println!("logins {logins}, lookups {lookups}, denied reads {denied}\n{}", proxy.summary());
        assert_eq!(logins, 1, "{}{}", proxy.summary(), agent.report());
        assert!(lookups <= 1, "{}", proxy.summary());
        assert!(denied <= 13, "{}", proxy.summary());
        assert_eq!(leased.alive(setup).await?, 1);
        assert_eq!(setup.case.admin.accessors_of(&setup.case.auth_mount).await?.len(), 1);
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn supplied_token_without_default_policy_is_used() -> Result<()> {
    Setup::shared("nodefault", async |setup| {
        let request = json!({"policies": [setup.case.role], "no_default_policy": true, "ttl": "1h"});
        let (token, _) = setup.case.admin.create_token(request).await?;
        let proxy = Proxy::counting(setup.servers.vault.address()).await?;
        let mut once = setup.agent(&["once", "--timeout", "10s"], &supplied_token(&proxy.url(), &token))?;
        assert_eq!(once.wait(SOON).await?.code(), Some(0), "{}", once.report());
        assert_eq!(setup.case.read("password").as_deref(), Some("Losungwort"));
        println!("{}", proxy.summary());
        assert!(proxy.seen().len() <= 3, "{}", proxy.summary());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn expiring_supplied_token_is_reported_and_causes_few_requests() -> Result<()> {
    Setup::shared("tokenend", async |setup| {
        let leased = Leased::new(setup).await?;
        leased.put(setup, json!({"password": "auf-Zeit", "ttl": "1h"})).await?;
        allow(setup, &[&leased.path(), &data_path(setup, "webapp/config")]).await?;
        let request = json!({"policies": [setup.case.role, "default"], "type": "batch", "ttl": "8s"});
        let answer = setup.case.admin.put("auth/token/create", request).await?;
        let token = answer["auth"]["client_token"].as_str().context("a token")?.to_owned();
        let ends = Instant::now() + Duration::from_secs(8);
        let proxy = Proxy::counting(setup.servers.vault.address()).await?;
        let document = format!(
            "sources:\n  db: {{path: {}, engine: kv-v1}}\n  app: {{path: {}, refresh: 2s}}\noutputs:\n\
             - {{source: db, prefix: db}}\n- {{source: app}}\n",
            leased.path(),
            setup.case.secret_path()
        );
        let url = proxy.url();
        let changes =
            [("KEYFERRY_SECRETS", ""), ("KEYFERRY_MIRROR", ""), ("KEYFERRY_CONFIG_INLINE", document.as_str())];
        let mut agent = setup.agent(&["run"], &[&supplied_token(&url, &token)[..], &changes].concat())?;
        setup.file_is(&mut agent, "db/password", "auf-Zeit").await?;
        setup.condition_is(&mut agent, "SecretsFresh", "True", "TokenExpiring").await?;
        agent
            .wait_for("SecretsFresh is False", SOON, || async {
                (setup.condition("SecretsFresh").await?.0 == "False").then_some(())
            })
            .await?;
        let overdue = Instant::now().saturating_duration_since(ends);
        // Excessive requests would occur in the seconds around the expiry.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (lookups, issued) = (proxy.count("lookup-self"), proxy.count(&leased.path()));
        let (_, reason) = setup.condition("SecretsFresh").await.context("a condition")?;
        println!("lookups {lookups}, leased reads {issued}, False ({reason}) {overdue:?} late\n{}", proxy.summary());
        assert!(lookups <= 8, "{}{}", proxy.summary(), agent.report());
        // The second read occurs when the lease, in whole seconds, expires up to a second before the token.
        assert!(issued <= 2, "too many credentials were issued: {}{}", proxy.summary(), agent.report());
        assert!(overdue < Duration::from_secs(2), "SecretsFresh is False {overdue:?} after the end");
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn supplied_token_with_negative_ttl_is_used() -> Result<()> {
    Setup::shared("negative", async |setup| {
        let request = json!({"policies": [setup.case.role, "default"], "ttl": "1h"});
        let (token, _) = setup.case.admin.create_token(request).await?;
        // A standby that serves reads reports the TTL as of its start (openbao#3505).
        let proxy = Proxy::with_rule(setup.servers.vault.address(), |request, _, answer| {
            if request.path.ends_with("lookup-self") {
                answer["data"]["ttl"] = json!(-4000);
                answer["data"]["expire_time"] = json!("2026-01-01T00:00:00Z");
            }
        })
        .await?;
        let url = proxy.url();
        let changes = [&supplied_token(&url, &token)[..], &[("KEYFERRY_REFRESH", "1s")]].concat();
        let mut agent = setup.agent(&["run"], &changes)?;
        setup.file_is(&mut agent, "password", "Losungwort").await?;
        setup.case.put(&crate::setup::login("Nutzername", "trotz-negativer-Zeit")).await?;
        setup.file_is(&mut agent, "password", "trotz-negativer-Zeit").await?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        println!("{}", proxy.summary());
        assert!(proxy.count("lookup-self") <= 3, "{}", proxy.summary());
        agent.terminate(SOON).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn blocking_token_file_does_not_delay_deadline_or_sigterm() -> Result<()> {
    Setup::shared("fifo", async |setup| {
        let fifo = setup.case.jwt_file.with_file_name("token.fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status()?.success());
        let fifo = fifo.display().to_string();
        let document = format!(
            "auth: {{method: token, tokenFile: {fifo}}}\nsources: {{s: {{path: {}}}}}\n",
            setup.case.secret_path()
        );
        let none = configured_by(&document);
        let started = Instant::now();
        let mut once = setup.agent(&["once", "--timeout", "3s"], &none)?;
        let code = once.wait(SOON).await?.code();
        println!("once: exit code {code:?} after {:?}", started.elapsed());
        assert_eq!(code, Some(74), "{}", once.report());
        assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
        assert!(once.report().contains("found a FIFO"), "{}", once.report());

        let mut agent = setup.agent(&["run"], &none)?;
        agent.wait_for_log("CredentialUnreadable", SOON).await?;
        let stopped = Instant::now();
        agent.terminate(SOON).await?;
        println!("run: exited {:?} after SIGTERM", stopped.elapsed());
        assert!(stopped.elapsed() < Duration::from_secs(6), "the drain took {:?}", stopped.elapsed());
        Ok(())
    })
    .await
}
