//! UIDs of agent and application, the login with JWT, and the CA certificate.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::manifest::{IDLE, Object};
use crate::setup::Setup;
use crate::testbed::reference_scenario::trust_keys;

/// Checks that the application can read a file; prints its owner, group and mode.
const STAT: &str = "cat /etc/sensitive/password >/dev/null && stat -L -c '%u:%g %a' /etc/sensitive/password";

fn security(object: &mut Object, of: &str, change: &Value) {
    let context = &mut object.container(of)["securityContext"];
    for (key, value) in change.as_object().into_iter().flatten() {
        if value.is_null() {
            context.as_object_mut().expect("a context").remove(key);
        } else {
            context[key] = value.clone();
        }
    }
}

#[tokio::test]
async fn application_reads_updates_with_any_uid_combination() -> Result<()> {
    Setup::shared("application_reads_updates_with_any_uid_combination", async |setup| {
        let none = json!({"runAsUser": null, "runAsGroup": null});
        let table = [
            // Different UIDs and no common group: files are world-readable, in a directory that only the agent writes.
            ("different", json!({}), json!({"runAsUser": 2000, "runAsGroup": 2000}), json!({}), "65532:65532 444"),
            // A common group.
            (
                "group",
                json!({"fsGroup": 3000}),
                json!({"runAsUser": 2000, "runAsGroup": 2000}),
                json!({}),
                "65532:3000 440",
            ),
            // OpenShift: one random UID for all containers of a namespace, group 0, and an fsGroup.
            (
                "random",
                json!({"runAsUser": 1_000_650_000, "runAsGroup": 0, "fsGroup": 1_000_650_000}),
                none.clone(),
                none,
                "1000650000:1000650000 440",
            ),
        ];
        for (what, of_pod, of_app, of_agent, seen) in table {
            let demo = setup.demo()?.script(IDLE).env("KEYFERRY_MIRROR", "").change(|demo| {
                demo.0["metadata"]["name"] = json!(format!("demo-{what}"));
                demo.0["spec"]["selector"]["matchLabels"]["app"] = json!(what);
                demo.0["spec"]["template"]["metadata"]["labels"]["app"] = json!(what);
                for (key, value) in of_pod.as_object().into_iter().flatten() {
                    demo.pod()["securityContext"][key] = value.clone();
                }
                security(demo, "webapp", &of_app);
                security(demo, "keyferry", &of_agent);
            });
            setup.apply(&demo).await?;
            let pod = setup.ready(what).await?;
            assert_eq!(setup.exec(&pod, "webapp", STAT)?.trim(), seen, "{what}");
            let password = format!("gedreht-{what}");
            setup.put("Nutzername", &password).await?;
            setup.file_is(&pod, "password", &password).await?;
            let token = setup.exec(&pod, "webapp", "ls /run/keyferry /var/run/secrets 2>&1 || true")?;
            assert_eq!(
                token.matches("No such file").count(),
                2,
                "{what}: the application sees more than its files: {token}"
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn jwt_login_verifies_token_with_published_cluster_keys() -> Result<()> {
    Setup::shared("jwt_login_verifies_token_with_published_cluster_keys", async |setup| {
        let mount = format!("jwt-{}", setup.unique);
        let (api, ca) = (setup.cluster.api_server_inside(), setup.cluster.kube.ca_pem());
        trust_keys(&setup.vault, &setup.admin, &mount, &api, ca).await?;
        let subject = format!("system:serviceaccount:{}:secret-privileged-sa", setup.namespace);
        let bound = json!({"role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"],
            "bound_subject": subject, "token_policies": [setup.unique]});
        setup.vault.role(&mount, &setup.unique, bound).await?;
        let demo = setup.demo()?.script(IDLE).env("KEYFERRY_AUTH_METHOD", "jwt").env("KEYFERRY_AUTH_MOUNT", &mount);
        setup.apply(&demo).await?;
        let pod = setup.ready("webapp").await?;
        assert_eq!(setup.file(&pod, "password").as_deref(), Some("Losungwort"));
        assert_eq!(setup.vault.accessors_of(&mount).await?.len(), 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn ca_certificate_from_config_map_verifies_vault() -> Result<()> {
    Setup::with_node_control("ca_certificate_from_config_map_verifies_vault", async |setup| {
        let vault = setup.cluster.spare_vault(true, 8302).await?;
        setup.seed_vault(&vault.admin()?).await?;
        let address = vault.address_inside().to_owned();

        // The image contains no CA certificates: without a file, verification fails, and the log names the setting.
        let demo = setup.demo()?.script(IDLE).env("VAULT_ADDR", &address).change(|demo| {
            // A pod that never becomes Ready would block the next one.
            demo.0["spec"]["strategy"] = json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}});
        });
        setup.apply(&demo).await?;
        let pod = setup.pod_where("webapp", "the pod exists", |pod| Some(crate::setup::name(pod))).await?.1;
        setup
            .wait_for("the agent asks for a CA certificate", || async {
                setup.logs(&pod, "keyferry").ok()?.contains("vault.tls.caFile").then_some(())
            })
            .await?;

        let pem = std::fs::read_to_string(vault.ca_file().context("TLS")?)?;
        let map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "vault-ca"}, "data": {"ca.crt": pem}});
        setup.admin.apply(&setup.namespace, &map.to_string()).await?;
        let demo = demo.env("VAULT_CACERT", "/etc/vault-ca/ca.crt").change(|demo| {
            let volumes = demo.pod()["volumes"].as_array_mut().expect("volumes");
            volumes.push(json!({"name": "vault-ca", "configMap": {"name": "vault-ca"}}));
            let mounts = demo.agent()["volumeMounts"].as_array_mut().expect("mounts");
            mounts.push(json!({"name": "vault-ca", "mountPath": "/etc/vault-ca", "readOnly": true}));
        });
        setup.apply(&demo).await?;
        let pod = setup.ready("webapp").await?;
        assert_eq!(setup.file(&pod, "password").as_deref(), Some("Losungwort"));
        vault.stop().await
    })
    .await
}
