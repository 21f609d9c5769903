//! The reference scenario under its own names, one row after another.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use crate::manifest::{self, IDLE};
use crate::setup::{Setup, container};

#[tokio::test]
async fn reference_scenario_passes_each_row() -> Result<()> {
    Setup::reference("reference_scenario_passes_each_row", async |setup| {
        setup.apply(&setup.demo()?.script(IDLE)).await?;
        let pod = setup.ready("webapp").await?;

        // The files.
        assert_eq!(setup.exec(&pod, "webapp", "ls /etc/sensitive")?, "password\nusername\n");
        assert_eq!(setup.file(&pod, "username").as_deref(), Some("Nutzername"));
        assert_eq!(setup.file(&pod, "password").as_deref(), Some("Losungwort"));
        let written = setup.exec(&pod, "webapp", "(echo x > /etc/sensitive/password) 2>&1 || true")?;
        assert!(written.contains("Read-only file system"), "{written}");

        // The Secret.
        setup.secret_is("password", "Losungwort").await?;
        let secret = setup.secret().await?.expect("just seen");
        assert_eq!(secret.type_.as_deref(), Some("Opaque"));
        let keys: Vec<_> = secret.data.expect("just seen").into_keys().collect();
        assert_eq!(keys, ["password", "username"]);

        // The application has no API token, and its ServiceAccount has no permission to read Secrets.
        let tokens = setup.exec(&pod, "webapp", "ls /var/run/secrets 2>&1 || true")?;
        assert!(tokens.contains("No such file"), "{tokens}");
        for (account, may_see_pods) in [("secret-privileged-sa", false), ("non-privileged-sa", true)] {
            let pod = kubectl_pod(account);
            setup.admin.apply(&setup.namespace, &pod.to_string()).await?;
            let pod = format!("kubectl-{account}");
            let run = async |script: &str| {
                setup.wait_for("kubectl runs in the pod", || async { setup.exec(&pod, "kubectl", script).ok() }).await
            };
            let read = run("kubectl get secret top-secret-ks 2>&1 || true").await?;
            assert!(read.contains("Forbidden"), "{account}: {read}");
            let pods = run("kubectl get pods 2>&1 || true").await?;
            assert_eq!(!pods.contains("Forbidden"), may_see_pods, "{account}: {pods}");
            for verb in ["get", "list", "watch"] {
                let can = |what: &str| format!("kubectl auth can-i {verb} {what} || true");
                assert_eq!(run(&can("secrets")).await?.trim(), "no", "{account}");
                assert_eq!(run(&can("pods")).await?.trim() == "yes", may_see_pods, "{account}");
            }
        }

        // A change in Vault reaches file and Secret without a restart.
        let changed = Instant::now();
        setup.put("Nutzername", "Stichwort").await?;
        setup.file_is(&pod, "password", "Stichwort").await?;
        let in_file = changed.elapsed();
        setup.secret_is("password", "Stichwort").await?;
        assert!(in_file < Duration::from_secs(5), "refresh is 1 s: {in_file:?}");
        println!("refresh 1 s: in the file after {in_file:.1?}, in the Secret after {:.1?}", changed.elapsed());
        let now = setup.pod(&pod).await?.expect("the same pod");
        for name in ["keyferry", "webapp"] {
            assert_eq!(container(&now, name).map(|status| status.restart_count), Some(0), "{name}");
        }
        assert!(setup.logins().is_none_or(|logins| logins == 1));
        Ok(())
    })
    .await
}

/// A pod in which `kubectl` runs as a `ServiceAccount`.
fn kubectl_pod(account: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("kubectl-{account}")},
        "spec": {
            "serviceAccountName": account,
            "automountServiceAccountToken": true,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "kubectl", "image": "keyferry-toolbox:0.1.0", "args": [IDLE],
                "env": [{"name": "HOME", "value": "/tmp"}],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}

#[tokio::test]
async fn unlisted_service_account_pod_is_denied_with_clear_message() -> Result<()> {
    Setup::shared("unlisted_service_account_pod_is_denied_with_clear_message", async |setup| {
        let unprivileged = manifest::one("manifests/unprivileged.yaml", "Deployment")?.namespace(&setup.namespace);
        let file = setup.cluster.watchdog.directory.join("unprivileged.json");
        std::fs::write(&file, unprivileged.0.to_string())?;
        let denied = setup
            .wait_for("the policy is enforced", || async {
                let file = file.display().to_string();
                setup.kubectl(&["apply", "--server-side", "--dry-run=server", "--filename", &file]).err()
            })
            .await?;
        let denied = format!("{denied:#}");
        assert!(denied.contains("non-privileged-sa") && denied.contains("may not consume Secrets"), "{denied}");
        Ok(())
    })
    .await
}
