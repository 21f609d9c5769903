//! The reference scenario.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::Result;

use crate::stage::{QUICK, SOON, Stage, login};

#[tokio::test]
async fn the_article_s_case_as_an_init_container() -> Result<()> {
    Stage::shared("init", async |stage| {
        let mut agent = stage.agent(&["once"], &[])?;
        let status = agent.wait(SOON).await?;
        assert_eq!(status.code(), Some(0), "{}", agent.report());
        assert_eq!(stage.case.read("username").as_deref(), Some("Nutzername"));
        assert_eq!(stage.case.read("password").as_deref(), Some("Losungwort"));
        let secret = stage.secret().await?.expect("the Secret is there");
        assert_eq!(secret["username"], "Nutzername");
        assert_eq!(secret["password"], "Losungwort");
        let object = stage.case.cluster.secret(&stage.case.namespace, "top-secret-ks").await?.expect("there");
        assert_eq!(object.type_.as_deref(), Some("Opaque"));
        let mode = std::fs::metadata(stage.case.directory.join("password"))?.permissions().mode();
        assert_eq!(mode & 0o7777, 0o444, "read-only for everybody, in a directory that only the agent writes");
        assert_eq!(stage.condition("SecretsReady").await, Some(("True".into(), "Published".into())));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_article_s_case_as_a_sidecar_follows_a_rotation_everywhere() -> Result<()> {
    Stage::shared("sidecar", async |stage| {
        let mut agent = stage.agent(&["run"], QUICK)?;
        stage.file_is(&mut agent, "password", "Losungwort").await?;
        stage.secret_is(&mut agent, "password", "Losungwort").await?;
        for (kind, reason) in [("SecretsReady", "Published"), ("SecretsFresh", "Fresh"), ("Mirrored", "Mirrored")] {
            stage.condition_is(&mut agent, kind, "True", reason).await?;
        }
        stage.case.put(&login("Nutzername", "Stichwort")).await?;
        stage.file_is(&mut agent, "password", "Stichwort").await?;
        stage.secret_is(&mut agent, "password", "Stichwort").await?;
        Ok(())
    })
    .await
}
