//! Start and stop of a pod's containers.

use std::time::Instant;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::manifest::{self, IDLE};
use crate::setup::{Setup, condition, container, containers, name};

#[tokio::test]
async fn readiness_gate_keeps_pod_unready_until_first_set() -> Result<()> {
    Setup::shared("readiness_gate_keeps_pod_unready_until_first_set", async |setup| {
        setup.vault.policy(&setup.unique, "# nothing yet").await?;
        // The application starts once the agent is live and has created its directory, so only the gate keeps the pod unready.
        let demo = setup.demo()?.script(IDLE).change(|demo| {
            demo.agent()["startupProbe"]["exec"]["command"] = json!(["/keyferry", "probe", "live"]);
        });
        let demo = demo.env("KEYFERRY_CONFIG_INLINE", "retry: {base: 100ms, max: 1s, slow: 1s}");
        setup.apply(&demo).await?;
        let held = |pod: &Pod| {
            let gate = condition(pod, "keyferry.dev/SecretsReady")?;
            let ready = condition(pod, "Ready")?;
            let runs = container(pod, "webapp")?.ready;
            (runs
                && gate == ("False".into(), "Denied".into())
                && ready == ("False".into(), "ReadinessGatesNotReady".into()))
                .then_some(())
        };
        let (pod, ()) =
            setup.pod_where("webapp", "the gate keeps the pod unready although its containers are ready", held).await?;
        let policy = format!("path \"secret/data/{}\" {{ capabilities = [\"read\"] }}", setup.path());
        setup.vault.policy(&setup.unique, &policy).await?;
        assert_eq!(setup.ready("webapp").await?, name(&pod));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn job_with_sidecar_completes() -> Result<()> {
    Setup::shared("job_with_sidecar_completes", async |setup| {
        let mut demo = setup.demo()?.script("cat /etc/sensitive/username; sleep 1");
        let mut pod = demo.pod().take();
        pod["restartPolicy"] = json!("Never");
        pod.as_object_mut().expect("a specification").remove("readinessGates");
        let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "with-sidecar"},
        "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": {"app": "job"}}, "spec": pod}}});
        setup.admin.apply(&setup.namespace, &job.to_string()).await?;
        completes(setup, "with-sidecar").await?;
        let ended = setup.pods_of("job").await?;
        let codes: Vec<_> =
            ended.iter().flat_map(containers).map(|status| status.state?.terminated.map(|end| end.exit_code)).collect();
        assert_eq!(codes, [Some(0), Some(0)], "the agent exits with 0 as well");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn job_with_init_container_completes() -> Result<()> {
    Setup::shared("job_with_init_container_completes", async |setup| {
        let job = setup.configure(manifest::one("manifests/job.yaml", "Job")?);
        setup.apply(&job).await?;
        completes(setup, "demo-job").await?;
        assert_eq!(setup.logs(&name(&setup.pods_of("job").await?[0]), "work")?, "done\n");
        assert!(setup.vault.accessors_of(&setup.mount()).await?.is_empty(), "its token is revoked");
        Ok(())
    })
    .await
}

async fn completes(setup: &Setup, job: &str) -> Result<()> {
    let jobs: Api<k8s_openapi::api::batch::v1::Job> = Api::namespaced(setup.admin.client.clone(), &setup.namespace);
    let started = Instant::now();
    setup
        .wait_for("the Job is complete", || async {
            let status = jobs.get_opt(job).await.ok()??.status?;
            status.conditions?.iter().any(|c| c.type_ == "Complete" && c.status == "True").then_some(())
        })
        .await?;
    println!("{job} complete after {:.1?}", started.elapsed());
    Ok(())
}

#[tokio::test]
async fn agent_stops_after_application_and_revokes_token() -> Result<()> {
    Setup::shared("agent_stops_after_application_and_revokes_token", async |setup| {
        // The application stops slowly and reads its files last.
        let slow = "trap 'sleep 3; cat /etc/sensitive/password >/dev/null || exit 9; exit 0' TERM
            while :; do sleep 1 & wait; done";
        let demo = setup.demo()?.script(slow).change(|demo| {
            // Keeps the Pod object after its termination, for the checks.
            demo.0["spec"]["template"]["metadata"]["finalizers"] = json!(["keyferry.dev/test"]);
        });
        setup.apply(&demo).await?;
        let pod = setup.ready("webapp").await?;
        assert_eq!(setup.vault.accessors_of(&setup.mount()).await?.len(), 1);
        setup.kubectl(&["delete", "deployment", "demo-dp", "--wait=false"])?;
        let ends = setup
            .wait_for("both containers have exited", || async {
                let pod = setup.pod(&pod).await.ok()??;
                let end = |of: &str| container(&pod, of)?.state?.terminated;
                Some((end("webapp")?, end("keyferry")?))
            })
            .await?;
        let accessors = setup.vault.accessors_of(&setup.mount()).await?;
        let last = condition(&setup.pod(&pod).await?.context("kept")?, "keyferry.dev/SecretsFresh");
        let pods: Api<Pod> = Api::namespaced(setup.admin.client.clone(), &setup.namespace);
        pods.patch(&pod, &PatchParams::default(), &Patch::Merge(json!({"metadata": {"finalizers": null}}))).await?;
        assert_eq!((ends.0.exit_code, ends.1.exit_code), (0, 0));
        assert!(ends.0.finished_at <= ends.1.finished_at, "{ends:?}");
        assert!(accessors.is_empty(), "the token is revoked");
        assert_eq!(last, Some(("False".into(), "AgentStopped".into())));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn directory_created_by_kubelet_is_rejected_and_shown_by_describe() -> Result<()> {
    Setup::shared("directory_created_by_kubelet_is_rejected_and_shown_by_describe", async |setup| {
        // A container that starts before the agent mounts the files, so the kubelet creates the directory, as root.
        let demo = setup.demo()?.script(IDLE).env("KEYFERRY_MIRROR", "").change(|demo| {
            let mut early = demo.container("webapp").clone();
            early["name"] = json!("early");
            early["args"] = json!(["true"]);
            demo.pod()["initContainers"].as_array_mut().expect("init containers").insert(0, early);
        });
        setup.apply(&demo).await?;
        let rejected = |pod: &Pod| container(pod, "keyferry")?.last_state?.terminated;
        let (pod, end) = setup.pod_where("webapp", "the agent has exited", rejected).await?;
        let words = "is owned by UID 0, but keyferry runs as UID 65532";
        println!("{:?}", end.message);
        assert_eq!(end.exit_code, 74);
        assert!(end.message.as_deref().is_some_and(|message| message.contains(words)), "{end:?}");
        let seen = setup.kubectl(&["describe", "pod", &name(&pod)])?;
        assert!(seen.contains(words) && seen.contains("DirectoryUnusable"), "{seen}");
        Ok(())
    })
    .await
}
