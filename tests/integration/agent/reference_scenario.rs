//! The reference scenario.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::Result;

use crate::setup::{QUICK, SOON, Setup, login};

#[tokio::test]
async fn reference_scenario_works_as_init_container() -> Result<()> {
    Setup::shared("init", async |setup| {
        let mut agent = setup.agent(&["once"], &[])?;
        let status = agent.wait(SOON).await?;
        assert_eq!(status.code(), Some(0), "{}", agent.report());
        assert_eq!(setup.case.read("username").as_deref(), Some("Nutzername"));
        assert_eq!(setup.case.read("password").as_deref(), Some("Losungwort"));
        let secret = setup.secret().await?.expect("the Secret exists");
        assert_eq!(secret["username"], "Nutzername");
        assert_eq!(secret["password"], "Losungwort");
        let object = setup.case.cluster.secret(&setup.case.namespace, "top-secret-ks").await?.expect("there");
        assert_eq!(object.type_.as_deref(), Some("Opaque"));
        let mode = std::fs::metadata(setup.case.directory.join("password"))?.permissions().mode();
        assert_eq!(mode & 0o7777, 0o444, "world-readable, in a directory that only the agent writes");
        assert_eq!(setup.condition("SecretsReady").await, Some(("True".into(), "Published".into())));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn reference_scenario_as_sidecar_follows_rotation() -> Result<()> {
    Setup::shared("sidecar", async |setup| {
        let mut agent = setup.agent(&["run"], QUICK)?;
        setup.file_is(&mut agent, "password", "Losungwort").await?;
        setup.secret_is(&mut agent, "password", "Losungwort").await?;
        for (kind, reason) in [("SecretsReady", "Published"), ("SecretsFresh", "Fresh"), ("Mirrored", "Mirrored")] {
            setup.condition_is(&mut agent, kind, "True", reason).await?;
        }
        setup.case.put(&login("Nutzername", "Stichwort")).await?;
        setup.file_is(&mut agent, "password", "Stichwort").await?;
        setup.secret_is(&mut agent, "password", "Stichwort").await?;
        Ok(())
    })
    .await
}
