//! Faults around a running pod: killed containers, kubelet restart, full volume, missing permissions.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::manifest::IDLE;
use crate::setup::{Setup, condition, container, is_ready, message, name};

/// An application that reads the set in a loop and reports a missing file or a mixed pair.
const READER: &str = r#"
trap 'exit 0' TERM
n=0
while :; do
  [ -r /etc/sensitive/username ] && [ -r /etc/sensitive/password ] || echo MISSING
  set=$(readlink /etc/sensitive/..data)
  user=$(cat "/etc/sensitive/$set/username" 2>/dev/null) && password=$(cat "/etc/sensitive/$set/password" 2>/dev/null) || continue
  [ "${user#Nutzer-}" = "${password#Losung-}" ] || echo "MIXED"
  n=$((n + 1))
  [ $((n % 20)) != 0 ] || echo "reads $n"
done
"#;

async fn rotate(setup: &Setup, pod: &str, round: u32) -> Result<()> {
    setup.put(&format!("Nutzer-{round}"), &format!("Losung-{round}")).await?;
    setup.file_is(pod, "password", &format!("Losung-{round}")).await
}

/// Checks that the reader has read and has reported no missing file and no mixed pair.
async fn check_reader(setup: &Setup, pod: &str) -> Result<()> {
    let log = setup
        .wait_for("the reader reads", || async { setup.logs(pod, "webapp").ok().filter(|log| log.contains("reads ")) })
        .await?;
    ensure!(!log.contains("MISSING") && !log.contains("MIXED"), "{log}");
    Ok(())
}

async fn wait_for_restart(setup: &Setup, app: &str, of: &str, times: i32) -> Result<()> {
    let again = |pod: &Pod| {
        let status = container(pod, of)?;
        (status.restart_count == times && status.state?.running.is_some() && is_ready(pod)).then_some(())
    };
    setup.pod_where(app, &format!("{of} runs again"), again).await.map(|_| ())
}

#[tokio::test]
async fn files_stay_consistent_while_containers_are_killed() -> Result<()> {
    Setup::with_node_control("files_stay_consistent_while_containers_are_killed", async |setup| {
        setup.put("Nutzer-0", "Losung-0").await?;
        setup.apply(&setup.demo()?.script(READER)).await?;
        let pod_name = setup.ready("webapp").await?;
        let pod = setup.pod(&pod_name).await?.context("the pod")?;
        rotate(setup, &pod_name, 1).await?;

        setup.kill(&pod, "/keyferry")?;
        wait_for_restart(setup, "webapp", "keyferry", 1).await?;
        rotate(setup, &pod_name, 2).await?;
        check_reader(setup, &pod_name).await?;
        assert_eq!(setup.logins(), Some(2), "a killed agent cannot keep its token");

        setup.kill(&pod, "/bin/sh")?;
        wait_for_restart(setup, "webapp", "webapp", 1).await?;
        assert_eq!(setup.file(&pod_name, "password").as_deref(), Some("Losung-2"));
        rotate(setup, &pod_name, 3).await?;
        check_reader(setup, &pod_name).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn files_update_while_kubelet_restarts() -> Result<()> {
    Setup::exclusive("files_update_while_kubelet_restarts", async |setup| {
        setup.put("Nutzer-0", "Losung-0").await?;
        setup.apply(&setup.demo()?.script(READER)).await?;
        let pod_name = setup.ready("webapp").await?;
        let before = setup.pod(&pod_name).await?.context("the pod")?;
        setup.cluster.restart_kubelet().await?;
        rotate(setup, &pod_name, 1).await?;
        setup.pod_where("webapp", "the pod is Ready", |pod| is_ready(pod).then_some(())).await?;
        check_reader(setup, &pod_name).await?;
        let after = setup.pod(&pod_name).await?.context("the pod")?;
        for of in ["keyferry", "webapp"] {
            assert_eq!(
                container(&before, of).and_then(|c| c.container_id),
                container(&after, of).and_then(|c| c.container_id)
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn full_volume_keeps_previous_set_and_reports_no_space() -> Result<()> {
    Setup::with_node_control("full_volume_keeps_previous_set_and_reports_no_space", async |setup| {
        let quick = "retry: {base: 100ms, max: 1s, slow: 1s}";
        setup.apply(&setup.demo()?.script(IDLE).env("KEYFERRY_CONFIG_INLINE", quick)).await?;
        let pod_name = setup.ready("webapp").await?;
        let pod = setup.pod(&pod_name).await?.context("the pod")?;
        let volume = setup.cluster.volume(pod.metadata.uid.as_deref().context("a UID")?, "keyferry");
        let filler = volume.join("filler");
        let mut file = std::fs::File::create(&filler)?;
        let full = loop {
            if let Err(error) = std::io::Write::write_all(&mut file, &[0; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        drop(file);
        setup.put("Nutzername", "passt-nicht-mehr").await?;
        let is_full = |pod: &Pod| {
            (condition(pod, "keyferry.dev/SecretsFresh")? == ("False".into(), "NoSpace".into())).then_some(())
        };
        let (full, ()) = setup.pod_where("webapp", "the condition has the reason NoSpace", is_full).await?;
        let words = message(&full, "keyferry.dev/SecretsFresh").unwrap_or_default();
        ensure!(
            words.contains("used by files that keyferry did not create; remove them or raise sizeLimit"),
            "{words}"
        );
        assert_eq!(setup.file(&pod_name, "password").as_deref(), Some("Losungwort"), "the previous set stays");
        assert!(is_ready(&setup.pod(&pod_name).await?.context("the pod")?), "the pod stays Ready");
        std::fs::remove_file(&filler)?;
        setup.file_is(&pod_name, "password", "passt-nicht-mehr").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn agent_without_rbac_delivers_files() -> Result<()> {
    Setup::shared("agent_without_rbac_delivers_files", async |setup| {
        setup.kubectl(&["delete", "rolebinding", "keyferry"])?;
        // Without permission to write conditions, the readiness gate would never pass.
        let demo = setup.demo()?.script(IDLE).env("KEYFERRY_MIRROR", "").change(|demo| {
            demo.pod().as_object_mut().expect("a specification").remove("readinessGates");
        });
        setup.apply(&demo).await?;
        let pod = setup.ready("webapp").await?;
        assert_eq!(setup.file(&pod, "password").as_deref(), Some("Losungwort"));
        setup.put("Nutzername", "auch-ohne-Rechte").await?;
        setup.file_is(&pod, "password", "auch-ohne-Rechte").await?;
        let log = setup.logs(&pod, "keyferry")?;
        let is_report = |line: &&str| line.contains("Forbidden") && line.contains("pods/status");
        assert_eq!(log.lines().filter(is_report).count(), 1, "the missing permission is logged once: {log}");
        let now = setup.pod(&pod).await?.context("the pod")?;
        assert_eq!(condition(&now, "keyferry.dev/SecretsReady"), None);
        Ok(())
    })
    .await
}

/// The largest set that the defaults allow is half of the volume, and during a publication two sets exist. The pages of a
/// memory volume count towards the memory of the container that wrote them.
#[tokio::test]
async fn largest_set_fits_in_memory_limit() -> Result<()> {
    Setup::with_node_control("largest_set_fits_in_memory_limit", async |setup| {
        // Four secrets of 500 KiB: slightly less than half of 4 MiB, because files occupy whole pages.
        let value = |letter: &str| letter.repeat(500 * 1024);
        let put = async |letter: &str| -> Result<()> {
            for number in 0..4 {
                let path = format!("{}/{number}", setup.unique);
                setup.vault.put_kv("secret", &path, &json!({"value": value(letter)})).await?;
            }
            Ok(())
        };
        put("a").await?;
        let sources: Vec<_> = (0..4).map(|n| format!("s{n}=secret/{}/{n}", setup.unique)).collect();
        let policy = format!("path \"secret/data/{}/*\" {{ capabilities = [\"read\"] }}", setup.unique);
        setup.vault.policy(&setup.unique, &policy).await?;
        let outputs: Vec<_> = (0..4).map(|n| format!("{{source: s{n}, key: value, file: value{n}}}")).collect();
        let document = format!("outputs: [{}]", outputs.join(", "));
        let demo = setup
            .demo()?
            .script(IDLE)
            .env("KEYFERRY_SECRETS", &sources.join(","))
            .env("KEYFERRY_MIRROR", "")
            .env("KEYFERRY_CONFIG_INLINE", &document);
        setup.apply(&demo).await?;
        let pod_name = setup.ready("webapp").await?;
        let pod = setup.pod(&pod_name).await?.context("the pod")?;
        for letter in ["b", "c", "d"] {
            put(letter).await?;
            setup
                .wait_for("the application reads the new values", || async {
                    let heads =
                        setup.exec(&pod_name, "webapp", "for n in 0 1 2 3; do head -c 1 /etc/sensitive/value$n; done");
                    (heads.ok()? == letter.repeat(4)).then_some(())
                })
                .await?;
        }
        let pid = setup.cluster.processes(pod.metadata.uid.as_deref().context("a UID")?, "/keyferry");
        let peak = crate::testbed::cluster::peak_memory(*pid.first().context("the agent runs")?)?;
        let now = setup.pod(&pod_name).await?.context("the pod")?;
        let status = container(&now, "keyferry").context("the agent")?;
        println!("largest set: peak of {} KiB in the agent's cgroup, including files", peak / 1024);
        assert_eq!(status.restart_count, 0);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn replicas_write_secret_once_per_version_and_not_on_rolling_update() -> Result<()> {
    Setup::shared("replicas_write_secret_once_per_version_and_not_on_rolling_update", async |setup| {
        let mut demo = setup.demo()?.script(IDLE);
        demo.0["spec"]["replicas"] = json!(2);
        setup.apply(&demo).await?;
        let both = async |what: &str| {
            setup
                .wait_for(what, || async {
                    let pods = setup.pods_of("webapp").await.ok()?;
                    (pods.len() == 2 && pods.iter().all(is_ready)).then(|| pods.iter().map(name).collect::<Vec<_>>())
                })
                .await
        };
        let pods = both("both replicas are Ready").await?;
        setup.secret_is("password", "Losungwort").await?;
        for round in 1..=3 {
            let password = format!("Runde-{round}");
            setup.put("Nutzername", &password).await?;
            setup.secret_is("password", &password).await?;
            for pod in &pods {
                setup.file_is(pod, "password", &password).await?;
            }
        }
        let writes = |pods: &[String], outcome: &str| -> Result<usize> {
            let mut count = 0;
            for pod in pods {
                let log = setup.logs(pod, "keyferry")?;
                count += log.lines().filter(|line| line.contains(outcome)).count();
            }
            Ok(count)
        };
        assert_eq!(writes(&pods, "created Secret")?, 1);
        assert_eq!(writes(&pods, "updated Secret")?, 3, "one write per version");

        let version = setup.secret().await?.context("the Secret")?.metadata.resource_version;
        demo.0["spec"]["template"]["metadata"]["annotations"] = json!({"example.com/restarted": "yes"});
        setup.apply(&demo).await?;
        let new = setup
            .wait_for("two new replicas are Ready, and no old replica is left", || async {
                let now = setup.pods_of("webapp").await.ok()?;
                let new = now.len() == 2 && now.iter().all(|pod| is_ready(pod) && !pods.contains(&name(pod)));
                new.then(|| now.iter().map(name).collect::<Vec<_>>())
            })
            .await?;
        for pod in &new {
            assert_eq!(setup.file(pod, "password").as_deref(), Some("Runde-3"));
        }
        assert_eq!(writes(&new, "created Secret")? + writes(&new, "updated Secret")?, 0);
        assert_eq!(
            setup.secret().await?.context("the Secret")?.metadata.resource_version,
            version,
            "not written again"
        );
        Ok(())
    })
    .await
}
