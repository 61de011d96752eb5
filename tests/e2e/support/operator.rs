//! The operator as a process of this machine.

use super::processes;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// An operator process; killed on drop, by its own process id.
pub struct Operator {
    child: Child,
    log: PathBuf,
}

impl Operator {
    /// With the kubeconfig of the test, or with another one.
    pub(super) fn start(args: &[&str], kubeconfig: Option<&Path>, log: PathBuf) -> Self {
        static BINARY: LazyLock<PathBuf> = LazyLock::new(binary);
        let mut command = processes::command(&*BINARY, &log);
        if let Some(kubeconfig) = kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        let child = command.args(args).env_remove("QUORATE_WATCH_NAMESPACES").spawn().unwrap();
        Self { child, log }
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM; how it ended and how long it took.
    pub async fn terminate(mut self, limit: Duration) -> (ExitStatus, Duration) {
        let began = Instant::now();
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, began.elapsed());
            }
            assert!(began.elapsed() < limit, "the operator still runs {limit:?} after SIGTERM");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// The operator that is tested. Clones that share cargo's target folder overwrite each other's.
fn binary() -> PathBuf {
    let binary = std::env::var_os("QUORATE_OPERATOR")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_quorate")), PathBuf::from);
    let help = Command::new(&binary).arg("--help").output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(help.contains("--watch-namespaces"), "{} is no operator: {help}", binary.display());
    binary
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.end();
    }
}
