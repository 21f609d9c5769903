//! `ServiceAccount`s of a namespace can write the Secrets that are listed for them, as keyferry does, and no others.

use anyhow::{Context as _, Result};
use http::Method;
use kube::Client;
use serde_json::{Value, json};

use super::setup::{APPLY, ApiResult, JSON_PATCH, MERGE, PolicySetup, WRITERS, accepted, denied, send};

const NOT_LISTED: &str = "may not write Secret";
const FOREIGN: &str = "is not managed by keyferry";

struct Writers {
    setup: PolicySetup,
    writer: Client,
    other: Client,
    stranger: Client,
}

impl Writers {
    async fn new(test: &str) -> Result<Option<Self>> {
        // With a space, as users write lists.
        let listed = json!({"keyferry.dev/secret-writers": "writer=ours,writer=foreign, other=theirs"});
        let Some(setup) = PolicySetup::new(test, &[WRITERS], listed).await? else { return Ok(None) };
        for account in ["writer", "other", "stranger"] {
            setup.account(account).await?;
        }
        let writer = setup.client("writer", None).await?;
        let (other, stranger) = (setup.client("other", None).await?, setup.client("stranger", None).await?);
        Ok(Some(Self { setup, writer, other, stranger }))
    }

    async fn apply(&self, client: &Client, name: &str, change: Value) -> ApiResult {
        self.apply_with(client, name, change, "").await
    }

    async fn apply_with(&self, client: &Client, name: &str, change: Value, query: &str) -> ApiResult {
        let path = self.setup.core(&format!("secrets/{name}?fieldManager=keyferry{query}"));
        send(client, &Method::PATCH, &path, APPLY, &secret(name, change)).await
    }

    async fn patch(&self, kind: &str, name: &str, change: &Value) -> ApiResult {
        let path = self.setup.core(&format!("secrets/{name}"));
        send(&self.writer, &Method::PATCH, &path, kind, change).await
    }

    /// Creates a Secret as an administrator.
    async fn foreign(&self) -> Result<()> {
        let theirs = json!({"metadata": {"name": "foreign"}, "stringData": {"a": "fremd"}});
        let path = self.setup.core("secrets");
        accepted("an administrator", send(&self.setup.admin.client, &Method::POST, &path, "", &theirs).await).map(drop)
    }
}

/// A Secret as keyferry writes it, with a change.
fn secret(name: &str, change: Value) -> Value {
    let mut secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "keyferry"}},
        "data": {"password": "TG9zdW5nd29ydA=="},
    });
    merge(&mut secret, change);
    secret
}

fn merge(into: &mut Value, change: Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change,
    }
}

fn owner(more: Value) -> Value {
    let mut owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "demo-dp", "uid": "1-2-3"});
    merge(&mut owner, more);
    json!({"metadata": {"ownerReferences": [owner]}})
}

#[tokio::test]
async fn writer_can_create_and_change_listed_secrets() -> Result<()> {
    let Some(writers) = Writers::new("writer_can_create_and_change_listed_secrets").await? else {
        return Ok(());
    };
    let Writers { writer, other, .. } = &writers;
    let changed = json!({"data": {"password": "U3RpY2h3b3J0"}});
    accepted("a dry run", writers.apply_with(writer, "ours", json!({}), "&dryRun=All").await)?;
    accepted("create", writers.apply(writer, "ours", json!({})).await)?;
    accepted("change", writers.apply(writer, "ours", changed).await)?;
    accepted("add an owner", writers.apply(writer, "ours", owner(json!({}))).await)?;
    let pair = json!({"type": "kubernetes.io/basic-auth", "data": {"username": "Tg=="}});
    accepted("another writer and another type", writers.apply(other, "theirs", pair).await)?;

    // keyferry first reads every Secret with an empty dry run, even one that it then leaves unchanged.
    writers.foreign().await?;
    let path = writers.setup.core("secrets/foreign?fieldManager=keyferry-look&dryRun=All");
    let nothing = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "foreign"}});
    accepted("an empty dry run", send(writer, &Method::PATCH, &path, APPLY, &nothing).await)?;
    Ok(())
}

#[tokio::test]
async fn write_to_unlisted_secret_is_denied() -> Result<()> {
    let Some(writers) = Writers::new("write_to_unlisted_secret_is_denied").await? else { return Ok(()) };
    let Writers { writer, stranger, setup, .. } = &writers;
    denied(
        "a Secret of another writer",
        writers.apply(writer, "theirs", json!({})).await,
        r#"may not write Secret "theirs""#,
    )?;
    denied("an unlisted Secret", writers.apply(writer, "free", json!({})).await, NOT_LISTED)?;
    denied("a prefix of a listed name", writers.apply(writer, "our", json!({})).await, NOT_LISTED)?;
    denied("two listed names joined", writers.apply(writer, "ours-foreign", json!({})).await, NOT_LISTED)?;
    denied("an unlisted account", writers.apply(stranger, "ours", json!({})).await, r#"ServiceAccount "stranger""#)?;
    let dry = writers.apply_with(stranger, "ours", json!({}), "&dryRun=All").await;
    denied("dry run of an unlisted account", dry, NOT_LISTED)?;
    let posted = send(stranger, &Method::POST, &setup.core("secrets"), "", &secret("ours", json!({}))).await;
    denied("POST of an unlisted account", posted, NOT_LISTED)?;

    accepted("create", writers.apply(writer, "ours", json!({})).await)?;
    let put = send(stranger, &Method::PUT, &setup.core("secrets/ours"), "", &secret("ours", json!({}))).await;
    denied("PUT of an unlisted account", put, NOT_LISTED)?;
    // The response to an empty patch would contain all values.
    for query in ["", "?dryRun=All"] {
        let path = setup.core(&format!("secrets/ours{query}"));
        let read = send(stranger, &Method::PATCH, &path, MERGE, &json!({})).await;
        denied("empty patch of an unlisted account", read, NOT_LISTED)?;
    }
    // The policy does not apply to accounts outside of the namespace, such as controllers.
    accepted("an administrator", writers.apply(&setup.admin.client, "free", json!({})).await)?;
    Ok(())
}

#[tokio::test]
async fn secret_writers_policy_ignores_accounts_of_other_namespaces() -> Result<()> {
    let name = "secret_writers_policy_ignores_accounts_of_other_namespaces";
    let Some(writers) = Writers::new(name).await? else { return Ok(()) };
    let Some(elsewhere) = PolicySetup::new(name, &[], json!({})).await? else { return Ok(()) };
    elsewhere.account("operator").await?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "operator"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "wide"},
        "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": elsewhere.namespace}],
    });
    writers.setup.admin.apply(&writers.setup.namespace, &binding.to_string()).await?;
    let operator = elsewhere.client("operator", None).await?;
    accepted("an operator", writers.apply(&operator, "free", json!({})).await)?;
    Ok(())
}

#[tokio::test]
async fn writer_cannot_create_tokens_or_block_deletion() -> Result<()> {
    let name = "writer_cannot_create_tokens_or_block_deletion";
    let Some(writers) = Writers::new(name).await? else { return Ok(()) };
    let Writers { writer, .. } = &writers;
    for kind in ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/release.v1"] {
        let identity = json!({
            "type": kind, "metadata": {"annotations": {"kubernetes.io/service-account.name": "stranger"}},
        });
        denied(kind, writers.apply(writer, "ours", identity).await, kind)?;
    }
    for made in [false, true] {
        if made {
            accepted("create", writers.apply(writer, "ours", json!({})).await)?;
        }
        for (what, change, words) in [
            ("finalizers", json!({"metadata": {"finalizers": ["example.com/stay"]}}), "finalizers"),
            ("immutable", json!({"immutable": true}), "immutable"),
            ("a controller", owner(json!({"controller": true})), "controller"),
            ("blockOwnerDeletion", owner(json!({"blockOwnerDeletion": true})), "block the deletion"),
        ] {
            let what = format!("{what} of {} Secret", if made { "an existing" } else { "a new" });
            denied(&what, writers.apply(writer, "ours", change).await, words)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn writer_cannot_change_unmanaged_secret() -> Result<()> {
    let Some(writers) = Writers::new("writer_cannot_change_unmanaged_secret").await? else { return Ok(()) };
    writers.foreign().await?;
    let read = || writers.setup.admin.secret(&writers.setup.namespace, "foreign");
    let before = read().await?.context("just created")?;
    denied("a merging apply", writers.apply(&writers.writer, "foreign", json!({})).await, FOREIGN)?;
    for (what, kind, change) in [
        ("a value", MERGE, json!({"data": {"a": "YQ=="}})),
        ("a value as text", MERGE, json!({"stringData": {"a": "a"}})),
        ("a removed key", MERGE, json!({"data": {"a": null}})),
        // A bypass would be to add keyferry's label first and then change the Secret.
        ("keyferry's label", MERGE, json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "keyferry"}}})),
        ("an annotation", JSON_PATCH, json!([{"op": "add", "path": "/metadata/annotations", "value": {"a": "b"}}])),
        ("an owner", MERGE, owner(json!({}))),
    ] {
        denied(what, writers.patch(kind, "foreign", &change).await, FOREIGN)?;
    }
    assert_eq!(before, read().await?.context("it still exists")?);
    Ok(())
}
