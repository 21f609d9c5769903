//! `ServiceAccount`s of a namespace write the Secrets that are named for them, as keyferry does, and no others.

use anyhow::{Context as _, Result};
use http::Method;
use kube::Client;
use serde_json::{Value, json};

use super::setup::{APPLY, ApiResult, JSON_PATCH, MERGE, PolicySetup, WRITERS, accepted, denied, send};

const NOT_NAMED: &str = "may not write Secret";
const FOREIGN: &str = "was not made by keyferry";

struct Writers {
    setup: PolicySetup,
    writer: Client,
    other: Client,
    stranger: Client,
}

impl Writers {
    async fn new(test: &str) -> Result<Option<Self>> {
        // With a blank, as people write lists.
        let named = json!({"keyferry.dev/secret-writers": "writer=ours,writer=foreign, other=theirs"});
        let Some(setup) = PolicySetup::new(test, &[WRITERS], named).await? else { return Ok(None) };
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

    /// A Secret that an administrator made.
    async fn foreign(&self) -> Result<()> {
        let theirs = json!({"metadata": {"name": "foreign"}, "stringData": {"a": "fremd"}});
        let path = self.setup.core("secrets");
        accepted("an administrator", send(&self.setup.admin.client, &Method::POST, &path, "", &theirs).await).map(drop)
    }
}

/// A Secret as keyferry writes it, but for the change.
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
    accepted("made", writers.apply(writer, "ours", json!({})).await)?;
    accepted("changed", writers.apply(writer, "ours", changed).await)?;
    accepted("with an owner", writers.apply(writer, "ours", owner(json!({}))).await)?;
    let pair = json!({"type": "kubernetes.io/basic-auth", "data": {"username": "Tg=="}});
    accepted("another's, of another type", writers.apply(other, "theirs", pair).await)?;

    // keyferry looks by a dry run that changes nothing, also at what it will then leave alone.
    writers.foreign().await?;
    let path = writers.setup.core("secrets/foreign?fieldManager=keyferry-look&dryRun=All");
    let nothing = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "foreign"}});
    accepted("a look", send(writer, &Method::PATCH, &path, APPLY, &nothing).await)?;
    Ok(())
}

#[tokio::test]
async fn write_to_unlisted_secret_is_denied() -> Result<()> {
    let Some(writers) = Writers::new("write_to_unlisted_secret_is_denied").await? else { return Ok(()) };
    let Writers { writer, stranger, setup, .. } = &writers;
    denied("another's", writers.apply(writer, "theirs", json!({})).await, r#"may not write Secret "theirs""#)?;
    denied("nobody's", writers.apply(writer, "free", json!({})).await, NOT_NAMED)?;
    denied("the beginning of a name", writers.apply(writer, "our", json!({})).await, NOT_NAMED)?;
    denied("two names", writers.apply(writer, "ours-foreign", json!({})).await, NOT_NAMED)?;
    denied("a stranger", writers.apply(stranger, "ours", json!({})).await, r#"ServiceAccount "stranger""#)?;
    let dry = writers.apply_with(stranger, "ours", json!({}), "&dryRun=All").await;
    denied("a stranger's dry run", dry, NOT_NAMED)?;
    let posted = send(stranger, &Method::POST, &setup.core("secrets"), "", &secret("ours", json!({}))).await;
    denied("a stranger's POST", posted, NOT_NAMED)?;

    accepted("made", writers.apply(writer, "ours", json!({})).await)?;
    let put = send(stranger, &Method::PUT, &setup.core("secrets/ours"), "", &secret("ours", json!({}))).await;
    denied("a stranger's PUT", put, NOT_NAMED)?;
    // The answer to a patch that changes nothing would hold all values.
    for query in ["", "?dryRun=All"] {
        let path = setup.core(&format!("secrets/ours{query}"));
        let read = send(stranger, &Method::PATCH, &path, MERGE, &json!({})).await;
        denied("a stranger's way to read", read, NOT_NAMED)?;
    }
    // Controllers and operators have their own namespace and are not asked.
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
            accepted("made", writers.apply(writer, "ours", json!({})).await)?;
        }
        for (what, change, words) in [
            ("finalizers", json!({"metadata": {"finalizers": ["example.com/stay"]}}), "finalizers"),
            ("immutable", json!({"immutable": true}), "immutable"),
            ("a controller", owner(json!({"controller": true})), "controller"),
            ("an owner that waits", owner(json!({"blockOwnerDeletion": true})), "block the deletion"),
        ] {
            let what = format!("{what} of a Secret that is {}", if made { "there" } else { "not there" });
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
    let before = read().await?.context("just made")?;
    denied("an apply that would merge", writers.apply(&writers.writer, "foreign", json!({})).await, FOREIGN)?;
    for (what, kind, change) in [
        ("a value", MERGE, json!({"data": {"a": "YQ=="}})),
        ("a value as text", MERGE, json!({"stringData": {"a": "a"}})),
        ("one key less", MERGE, json!({"data": {"a": null}})),
        // The way around would be to make it ours first, and to change it then.
        ("our label", MERGE, json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "keyferry"}}})),
        ("an annotation", JSON_PATCH, json!([{"op": "add", "path": "/metadata/annotations", "value": {"a": "b"}}])),
        ("an owner", MERGE, owner(json!({}))),
    ] {
        denied(what, writers.patch(kind, "foreign", &change).await, FOREIGN)?;
    }
    assert_eq!(before, read().await?.context("still there")?);
    Ok(())
}
