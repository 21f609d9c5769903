//! A test of the cluster itself. If it fails, fix the cluster before looking at the agent.

use anyhow::Result;

use crate::testbed::cluster::{RealCluster, TIMEOUT, images, output};
use crate::testbed::wait_until;

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: probe}
spec:
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: probe
    image: keyferry-toolbox:0.1.0
    args: ["ls -ld /memory; mount | grep /memory; sleep 1000"]
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: memory, mountPath: /memory}]
  volumes: [{name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}]
"#;

#[tokio::test]
async fn restricted_pod_logs_and_reaches_api_server() -> Result<()> {
    let name = "restricted_pod_logs_and_reaches_api_server";
    let Some(cluster) = RealCluster::shared(name).await else { return Ok(()) };
    if cluster.has_node_control() {
        cluster.import(&images::toolbox(&cluster.watchdog.directory, cluster.kubectl_binary())?).await?;
        assert_eq!(std::fs::read_to_string("/proc/sys/fs/protected_symlinks")?.trim(), "1", "as on every real node");
    }
    let admin = cluster.admin().await?;
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: cluster-test\n  labels: {pod-security.kubernetes.io/enforce: restricted}\n";
    admin.apply("", namespace).await?;
    wait_until("the default ServiceAccount exists", TIMEOUT, || async { admin.apply("cluster-test", POD).await.ok() })
        .await?;
    let logs = wait_until("the pod has logged", TIMEOUT, || async {
        output(cluster.kubectl().args(["--namespace=cluster-test", "logs", "probe"]))
            .ok()
            .filter(|log| log.contains("tmpfs"))
    })
    .await?;
    assert!(logs.contains("drwxrwxrwt"), "the root of a memory volume is sticky: {logs}");
    let seen = output(cluster.kubectl().args([
        "--namespace=cluster-test",
        "exec",
        "probe",
        "--",
        "sh",
        "-c",
        "kubectl auth whoami -o jsonpath={.status.userInfo.username}",
    ]))?;
    assert_eq!(
        seen, "system:serviceaccount:cluster-test:default",
        "with its own token, at the address in the environment of pods"
    );
    Ok(())
}
