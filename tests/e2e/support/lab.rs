//! The lab's nodes, for what no API does: wiping data, killing containers, reading the audit log.

use super::processes;
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::{Api, Client};

const AUDIT_LOG: &str = "/var/log/kubernetes/audit.log";

/// Runs a command inside a node and returns what it printed.
pub fn exec(node: &str, command: &[&str]) -> String {
    let output = processes::lab(&[&["exec", node], command].concat()).output().unwrap();
    assert!(
        output.status.success(),
        "{command:?} in {node} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The directory of a volume on its node.
pub async fn directory_of(client: &Client, volume: &str) -> String {
    let volume = Api::<PersistentVolume>::all(client.clone()).get(volume).await.unwrap().spec.unwrap();
    volume.host_path.map(|at| at.path).or_else(|| volume.local.map(|at| at.path)).expect("a volume on a node")
}

/// How long the audit log is by now.
pub fn audit_size() -> u64 {
    exec("node-1", &["stat", "-c", "%s", AUDIT_LOG]).trim().parse().unwrap()
}

/// The lines of the audit log from this byte on.
pub fn audit_log(from: u64) -> Vec<serde_json::Value> {
    let from = format!("+{}", from + 1);
    let text = exec("node-1", &["tail", "-c", &from, AUDIT_LOG]);
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
