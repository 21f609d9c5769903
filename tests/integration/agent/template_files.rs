//! Templates while the agent runs: files that change, secrets below a path, and `keyferry render`.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::leased::{data_path, put_secret};
use crate::setup::{SOON, Setup};

/// A template file next to the configuration file.
fn write_template(setup: &Setup<'_>, text: &str) -> Result<String> {
    let file = setup.case.jwt_file.with_file_name("app.tmpl");
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, text)?;
    std::fs::rename(&fresh, &file)?;
    Ok(file.display().to_string())
}

#[tokio::test]
async fn template_file_is_rendered_again_when_it_changes() -> Result<()> {
    Setup::shared("tmplfile", async |setup| {
        let path = setup.case.secret_path();
        let file = write_template(setup, "user={{ .app.username }}\n")?;
        let document = format!(
            "sources: {{app: {{path: {path}, refresh: 1s}}}}\noutputs:\n- {{file: app.ini, templateFile: {file}, mode: '0400'}}\n"
        );
        let mut agent = setup.agent_with_file(&["run"], &document)?;
        setup.file_is(&mut agent, "app.ini", "user=Nutzername\n").await?;
        write_template(setup, "password={{ .app.password }}\n")?;
        setup.file_is(&mut agent, "app.ini", "password=Losungwort\n").await?;
        // A template with an error is rejected as a whole, and the last good file stays.
        write_template(setup, "a\n{{ .app.password | quote }}\n")?;
        setup.condition_is(&mut agent, "SecretsFresh", "False", "ConfigRejected").await?;
        let message = setup.message("SecretsFresh").await.unwrap_or_default();
        assert!(message.contains("line 2, column 20: function quote is a function of Helm"), "{message}");
        assert_eq!(setup.case.read("app.ini").as_deref(), Some("password=Losungwort\n"));
        // A missing key fails when the secret is read.
        write_template(setup, "{{ .app.passwort }}\n")?;
        let line = agent.wait_for_log("has no key \\\"passwort\\\"", SOON).await?;
        assert!(line.contains("source app has no key"), "{line}");
        write_template(setup, "{{ .app.password }}")?;
        setup.file_is(&mut agent, "app.ini", "Losungwort").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn secrets_below_a_path_are_followed() -> Result<()> {
    Setup::shared("tmplpath", async |setup| {
        let mount = &setup.case.kv_mount;
        for name in ["one", "two"] {
            put_secret(setup, &format!("apps/{name}"), json!({"pw": format!("geheim-{name}")})).await?;
        }
        let rules = format!(
            "path \"{mount}/metadata/apps/\" {{ capabilities = [\"list\"] }}\n\
             path \"{}\" {{ capabilities = [\"read\"] }}\n",
            data_path(setup, "apps/*")
        );
        setup.case.admin.policy(&setup.case.role, &rules).await?;
        let template = format!(
            "{{{{ range secrets \"{mount}/apps/\" }}}}{{{{ with secret (printf \"{mount}/apps/%s\" .) }}}}{{{{ .Data.data.pw }}}};{{{{ end }}}}{{{{ end }}}}"
        );
        let document = json!({
            "outputs": [{"file": "all", "template": template}],
        });
        let mut agent = setup.agent_with(&["run"], &document.to_string())?;
        setup.file_is(&mut agent, "all", "geheim-one;geheim-two;").await?;
        assert!(!agent.log().concat().contains("keyferry.dev/Ready\",\"status\":\"False\",\"reason\":\"RenderFailed"));
        put_secret(setup, "apps/three", json!({"pw": "geheim-drei"})).await?;
        // The listing is read once a minute; a refresh reads it now.
        agent.signal(rustix::process::Signal::HUP)?;
        setup.file_is(&mut agent, "all", "geheim-one;geheim-drei;geheim-two;").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn render_masks_values_and_leaves_no_token() -> Result<()> {
    Setup::shared("render", async |setup| {
        let path = setup.case.secret_path();
        let template = "user={{ .app.username }}\n{{ if .app.password }}set{{ end }}\n";
        let document = json!({
            "sources": {"app": {"path": path}},
            "outputs": [
                {"file": "app.ini", "template": template},
                {"source": "app", "format": "json", "file": "all.json"},
                {"source": "app", "key": "password"},
            ],
        });
        let before = setup.case.admin.accessors_of(&setup.case.auth_mount).await?;
        let mut render = setup.agent_with(&["render"], &document.to_string())?;
        assert_eq!(render.wait(SOON).await?.code(), Some(0), "{}", render.report());
        let shown = render.stdout().join("\n");
        let expected = "=== all.json, from app\n{\"password\":\"***\",\"username\":\"***\"}\n=== app.ini, from app\n\
                        user=***\nset\n=== password, from app\n***";
        assert_eq!(shown.trim_end(), expected);
        assert!(!setup.case.directory.join("password").exists(), "nothing is written");
        assert_eq!(setup.case.admin.accessors_of(&setup.case.auth_mount).await?, before, "the token is revoked");
        let mut show = setup.agent_with(&["render", "--show"], &document.to_string())?;
        assert_eq!(show.wait(Duration::from_secs(10)).await?.code(), Some(64), "{}", show.report());
        assert!(show.report().contains("--show requires a terminal"), "{}", show.report());

        Ok(())
    })
    .await
}
