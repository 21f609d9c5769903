//! Creating and updating mirrored Secrets.

use std::sync::Arc;

use keyferry::kubernetes::MirrorOutcome;
use keyferry::model::{FailureClass, MirrorOwner, SecretType};
use serde_json::json;

use super::stage::{PATCH, POD, SECRET, Stage, expect_failure, mirror_of, name, opaque};

#[tokio::test]
async fn secret_is_created_kept_if_equal_and_updated() {
    let Some(stage) = Stage::new("life").await else { return };
    let agent = stage.agent().await;
    let mut mirror = opaque();
    mirror.labels.insert("team".into(), "web".into());
    mirror.owner = Some(MirrorOwner::Object {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: name(POD),
        uid: stage.pod_uid().await,
    });
    let (agent, mirror) = (&agent, &mirror);
    let mirror_once = |content| async move { agent.mirror(&name(SECRET), mirror, &content).await };

    assert_eq!(mirror_once(stage.login(1, "Losungwort")).await, Ok(MirrorOutcome::Created));
    let first = stage.secret().await;
    assert_eq!(first["data"], json!({"password": "TG9zdW5nd29ydA==", "username": "TnV0emVybmFtZQ=="}));
    assert_eq!(first["metadata"]["labels"], json!({"app.kubernetes.io/managed-by": "keyferry", "team": "web"}));
    assert!(first["metadata"]["ownerReferences"][0].get("blockOwnerDeletion").is_none());

    assert_eq!(mirror_once(stage.login(1, "Losungwort")).await, Ok(MirrorOutcome::Unchanged));
    assert_eq!(stage.secret().await["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);

    assert_eq!(mirror_once(stage.login(2, "Kennwort")).await, Ok(MirrorOutcome::Updated));
    assert_eq!(stage.secret().await["data"]["password"], "S2VubndvcnQ=");

    // A key that is no longer in the secret is removed.
    let one = stage.content(3, &SecretType::Opaque, &[("password", "Kennwort")]);
    assert_eq!(mirror_once(one.clone()).await, Ok(MirrorOutcome::Updated));
    assert_eq!(stage.secret().await["data"], json!({"password": "S2VubndvcnQ="}));
    assert_eq!(mirror_once(one).await, Ok(MirrorOutcome::Unchanged));
}

/// After a restore from a backup, Vault has older versions than the Secret.
#[tokio::test]
async fn older_version_is_written_only_if_accepted() {
    let Some(stage) = Stage::new("older").await else { return };
    let agent = stage.agent().await;
    agent.mirror(&name(SECRET), &opaque(), &stage.login(2, "Kennwort")).await.unwrap();
    let mut older = stage.login(1, "Losungwort");
    assert_eq!(stage.mirrored(&agent, &opaque(), &older).await.0, Ok(MirrorOutcome::Superseded));
    older.accept_older = true;
    let (outcome, data) = stage.mirrored(&agent, &opaque(), &older).await;
    assert_eq!((outcome, data["password"].as_str()), (Ok(MirrorOutcome::Updated), "Losungwort"));
    older.accept_older = false;
    assert_eq!(stage.mirrored(&agent, &opaque(), &older).await.0, Ok(MirrorOutcome::Unchanged));
}

#[tokio::test]
async fn changed_labels_or_owner_are_written_once() {
    let Some(stage) = Stage::new("labels").await else { return };
    let agent = stage.agent().await;
    let content = stage.login(1, "Losungwort");
    let uid = stage.pod_uid().await;
    let owner = MirrorOwner::Object { api_version: "v1".into(), kind: "Pod".into(), name: name(POD), uid };
    let mut with_both = opaque();
    with_both.labels.insert("team".into(), "web".into());
    with_both.owner = Some(owner);
    for (mirror, expected) in [
        (&opaque(), MirrorOutcome::Created),
        (&with_both, MirrorOutcome::Updated),
        (&with_both, MirrorOutcome::Unchanged),
        (&opaque(), MirrorOutcome::Updated),
        (&opaque(), MirrorOutcome::Unchanged),
    ] {
        assert_eq!(agent.mirror(&name(SECRET), mirror, &content).await, Ok(expected));
    }
    assert!(stage.secret().await["metadata"].get("ownerReferences").is_none());
}

#[tokio::test]
async fn concurrent_agents_create_one_secret_and_newest_version_wins() {
    let Some(stage) = Stage::new("parallel").await else { return };
    let mut agents = Vec::new();
    for _ in 0..8 {
        agents.push(Arc::new(stage.agent().await));
    }
    for round in 0..3 {
        let race: Vec<_> = (1..=8)
            .zip(&agents)
            .map(|(version, agent)| {
                let (agent, content) = (Arc::clone(agent), stage.login(version, &format!("password-{version}")));
                tokio::spawn(async move { agent.mirror(&name(SECRET), &opaque(), &content).await })
            })
            .collect();
        let mut created = 0;
        for racer in race {
            match racer.await.unwrap() {
                Ok(MirrorOutcome::Created) => created += 1,
                Ok(MirrorOutcome::Updated | MirrorOutcome::Superseded) => {}
                Ok(outcome @ (MirrorOutcome::Unchanged | MirrorOutcome::Repaired(_))) => {
                    panic!("all versions differ: {outcome:?}")
                }
                Err(failure) => assert_eq!(failure.class, FailureClass::Conflict, "{failure}"),
            }
        }
        assert_eq!(created, 1, "round {round}");
        // Each agent tries again, the newest version first. The others then leave the Secret unchanged.
        for (version, agent) in (1..=8).rev().zip(agents.iter().rev()) {
            let outcome =
                agent.mirror(&name(SECRET), &opaque(), &stage.login(version, &format!("password-{version}"))).await;
            match version {
                8 => assert!(matches!(
                    outcome,
                    Ok(MirrorOutcome::Updated | MirrorOutcome::Created | MirrorOutcome::Unchanged)
                )),
                _ => assert_eq!(outcome, Ok(MirrorOutcome::Superseded)),
            }
        }
        assert_eq!(stage.secret().await["data"]["password"], "cGFzc3dvcmQtOA==");
        stage.delete_secret().await;
    }
}

#[tokio::test]
async fn invalid_secret_is_rejected_with_remedy() {
    let Some(stage) = Stage::new("invalid").await else { return };
    let agent = stage.agent().await;
    let tls = stage.content(1, &SecretType::Tls, &[("password", "Losungwort")]);
    let failure = expect_failure(agent.mirror(&name(SECRET), &mirror_of(SecretType::Tls), &tls).await);
    assert_eq!(failure.class, FailureClass::Invalid);
    assert!(failure.message.contains("tls.crt"), "{}", failure.message);

    let docker = stage.content(1, &SecretType::DockerConfigJson, &[(".dockerconfigjson", "Losungwort: not JSON")]);
    let failure = expect_failure(agent.mirror(&name(SECRET), &mirror_of(SecretType::DockerConfigJson), &docker).await);
    assert_eq!(failure.class, FailureClass::Invalid);
    assert!(!failure.message.contains("'L'"), "{}", failure.message);

    let empty = stage.content(1, &SecretType::Opaque, &[]);
    let failure = expect_failure(agent.mirror(&name(SECRET), &opaque(), &empty).await);
    assert_eq!(failure.class, FailureClass::Invalid);

    agent.mirror(&name(SECRET), &opaque(), &stage.login(1, "Losungwort")).await.unwrap();
    let mut auth = stage.content(2, &SecretType::BasicAuth, &[("password", "Losungwort"), ("username", "Nutzername")]);
    auth.claim = true;
    let failure = expect_failure(agent.mirror(&name(SECRET), &mirror_of(SecretType::BasicAuth), &auth).await);
    assert_eq!(failure.class, FailureClass::Invalid);
    assert!(failure.message.contains("type of a Secret cannot change"), "{}", failure.message);

    stage.change_secret(PATCH, &json!({"immutable":true})).await;
    let failure = expect_failure(agent.mirror(&name(SECRET), &opaque(), &stage.login(2, "Kennwort")).await);
    assert_eq!(failure.class, FailureClass::Invalid);
    assert!(failure.message.contains("immutable"), "{}", failure.message);
}
