//! kubectl, as a person types it, and what it did to the whole lab undone, whatever becomes of the test.

use super::{Space, processes, until};
use quorate::api::labels;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

/// kubectl's arguments for the moment when this is dropped.
pub struct Undo(Vec<String>);

impl Undo {
    pub fn with(args: &[&str]) -> Self {
        Self(args.iter().map(|arg| (*arg).to_owned()).collect())
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let done = kubectl(&self.0);
        // A second panic would end all tests.
        assert!(done.is_ok() || std::thread::panicking(), "{done:?}");
    }
}

/// `kubectl drain` at work on a node. It ends, and the node takes Pods again, when this is dropped.
pub struct Drain {
    child: Child,
    log: PathBuf,
    _undo: Undo,
}

impl Drain {
    /// Begins to drain a node of the Pods of one cluster, for no longer than `timeout`.
    pub fn begin(space: &Space, cluster: &str, node: &str, timeout: Duration) -> Self {
        let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{node}.log", space.namespace));
        let undo = Undo::with(&["uncordon", node]);
        let child = processes::command("kubectl", &log)
            .args(["drain", node, "--ignore-daemonsets", "--delete-emptydir-data"])
            .arg(format!("--pod-selector={}", labels::selector_of_cluster(cluster)))
            .arg(format!("--timeout={}s", timeout.as_secs()))
            .spawn()
            .unwrap();
        Self { child, log, _undo: undo }
    }

    /// Waits for its end: what it said, as an error where it gave up.
    pub async fn ended(&mut self, limit: Duration) -> Result<String, String> {
        let status = until("the drain has ended", limit, async || self.child.try_wait().unwrap()).await;
        let said = std::fs::read_to_string(&self.log).unwrap();
        if status.success() { Ok(said) } else { Err(said) }
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        // First, or it would go on with a node that is thought to be well again.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.log);
    }
}

/// Runs kubectl; what it printed.
///
/// # Errors
/// What it said where it failed.
pub fn kubectl(args: &[impl AsRef<std::ffi::OsStr>]) -> Result<String, String> {
    let output = Command::new("kubectl").args(args).output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}
