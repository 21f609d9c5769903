//! A database credential and a certificate in a real pod, by the kustomize example and by the chart.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::helm::{Helm, NEWEST, Of};
use crate::manifest::{self, Object};
use crate::setup::{Setup, condition};
use crate::testbed::postgres::{Postgres, credentials, dynamic_role, installed};

/// The secret of the examples, which belongs to the reference scenario.
const SECRET: &str = "secret/webapp/config";

/// Configures the database and the certificates of the examples in Vault, with short lifetimes.
async fn configure(setup: &Setup, postgres: &Postgres) -> Result<()> {
    let vault = &setup.vault;
    postgres.mount(&setup.cluster.vault, "database").await?;
    dynamic_role(vault, "database", "webapp", 30, 50).await?;
    vault.put("sys/mounts/pki", json!({"type": "pki"})).await?;
    vault.put("pki/root/generate/internal", json!({"common_name": "test root", "ttl": "48h"})).await?;
    let role =
        json!({"allowed_domains": ["playground.svc"], "allow_subdomains": true, "key_type": "any", "max_ttl": "40s"});
    vault.put("pki/roles/webapp", role).await?;
    let mut rules = format!("path \"secret/data/{}\" {{ capabilities = [\"read\"] }}\n", setup.path());
    rules += "path \"database/creds/webapp\" { capabilities = [\"read\"] }\n\
              path \"pki/sign/webapp\" { capabilities = [\"update\"] }\n\
              path \"sys/leases/revoke\" { capabilities = [\"update\"] }\n";
    vault.policy(&setup.unique, &rules).await
}

/// The object, with the secret, the role, and the namespace of this test.
fn own(setup: &Setup, object: &Object) -> Result<Object> {
    let text = object.0.to_string().replace(SECRET, &format!("secret/{}", setup.path()));
    let object = Object(serde_json::from_str(&text)?).namespace(&setup.namespace);
    if object.0["kind"] != "Deployment" {
        return Ok(object);
    }
    Ok(object
        .env("VAULT_ADDR", setup.cluster.vault.address_inside())
        .env("KEYFERRY_ROLE", &setup.unique)
        .env("KEYFERRY_AUTH_MOUNT", &setup.mount())
        .change(|demo| demo.container("webapp")["env"] = json!([{"name": "WEBAPP_TLS_LISTEN", "value": ":8443"}])))
}

/// The pod of the application, and what it does with its files.
struct Application<'a> {
    setup: &'a Setup,
    postgres: &'a Postgres,
    volume: PathBuf,
    address: SocketAddr,
}

impl<'a> Application<'a> {
    async fn ready(setup: &'a Setup, postgres: &'a Postgres) -> Result<Self> {
        let pod = setup.ready("webapp").await?;
        let pod = setup.pod(&pod).await?.context("the pod")?;
        assert_eq!(condition(&pod, "keyferry.dev/SecretsReady"), Some(("True".into(), "Published".into())));
        let uid = pod.metadata.uid.context("a UID")?;
        let address = format!("{}:8443", pod.status.and_then(|status| status.pod_ip).context("an address")?);
        let volume = setup.cluster.volume(&uid, "keyferry").join("sensitive");
        Ok(Self { setup, postgres, volume, address: setup.cluster.relay(address.parse()?)? })
    }

    fn file(&self, file: &str) -> Result<String> {
        std::fs::read_to_string(self.volume.join(file)).with_context(|| format!("the file {file}"))
    }

    /// Logs in to the database with the files; returns the user.
    async fn log_in(&self) -> Result<String> {
        let (user, password) = credentials(&self.volume.join("..data/db"))?;
        self.postgres.log_in(&user, &password).await?;
        Ok(user)
    }

    /// Sends a request to the application over HTTPS, and verifies its certificate with the CA certificate of the files; returns
    /// the certificate.
    async fn request(&self) -> Result<Vec<u8>> {
        let ca = reqwest::Certificate::from_pem(self.file("ca.crt")?.as_bytes())?;
        let host = "webapp.playground.svc";
        let client =
            reqwest::Client::builder().tls_certs_only([ca]).resolve(host, self.address).tls_info(true).build()?;
        let url = format!("https://{host}:{}/healthz", self.address.port());
        let answer = client.get(url).send().await?.error_for_status()?;
        let info = answer.extensions().get::<reqwest::tls::TlsInfo>().context("a TLS connection")?;
        Ok(info.peer_certificate().context("a certificate")?.to_vec())
    }

    /// Waits until the application uses other credentials and another certificate than at the first call.
    async fn uses_replaced_files(&self) -> Result<()> {
        self.setup.leaks.plant_data(&json!({"key": self.file("tls.key")?, "password": self.file("db/password")?}));
        let (user, certificate) = (self.log_in().await?, self.request().await?);
        assert_eq!(self.file("password")?, "Losungwort");
        self.setup
            .wait_for("another database user and another certificate", || async {
                let (now, shown) = (self.log_in().await, self.request().await);
                match (now, shown) {
                    (Ok(now), Ok(shown)) => (now != user && shown != certificate).then_some(Ok(())),
                    (Err(error), _) | (_, Err(error)) => Some(Err(error)),
                }
            })
            .await?
    }
}

#[tokio::test]
async fn pods_use_database_credentials_and_certificates() -> Result<()> {
    let test = "pods_use_database_credentials_and_certificates";
    let (Some(programs), Some(helm)) = (installed(test), Helm::shared(test)) else { return Ok(()) };
    Setup::with_node_control(test, async |setup| {
        let cluster = setup.cluster;
        let postgres = Postgres::start(&programs, &cluster.watchdog, |inside| cluster.relay(inside)).await?;
        setup.leaks.plant(postgres.superuser_password());
        configure(setup, &postgres).await?;

        for object in manifest::kustomize(&mut cluster.kubectl(), "manifests/component/dynamic")? {
            setup.apply(&own(setup, &object)?).await?;
        }
        Application::ready(setup, &postgres).await?.uses_replaced_files().await?;
        setup.kubectl(&["delete", "deployment/demo-dp"])?;
        setup
            .wait_for("the first pod is gone and its database users are removed", || async {
                postgres.roles("v-%").await.ok()?.is_empty().then_some(())
            })
            .await?;

        let values = helm.values(Of::Webapp, "dynamic")?;
        let settings = [
            format!("keyferry.vault.address={}", cluster.vault.address_inside()),
            format!("keyferry.auth.role={}", setup.unique),
            format!("keyferry.auth.mount={}", setup.mount()),
            // The example chart has a mirror, which must not contain credentials with a lease.
            "keyferry.mirror.name=".to_owned(),
        ];
        let mut arguments = vec!["--values", &values];
        for setting in &settings {
            arguments.extend(["--set", setting]);
        }
        for object in helm.render(Of::Webapp, &setup.namespace, NEWEST, &arguments)? {
            setup.apply(&own(setup, &Object(object))?).await?;
        }
        let application = Application::ready(setup, &postgres).await?;
        application.uses_replaced_files().await?;
        let users = postgres.roles("v-%").await?;
        ensure!(users.len() <= 2, "{users:?}");
        Ok(())
    })
    .await
}
