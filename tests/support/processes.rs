//! Processes that tests start, and the lab's command.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// A command whose process the kernel ends should the thread that starts it die. All it prints goes to the
/// end of that log.
pub fn command(program: impl AsRef<OsStr>, log: &Path) -> Command {
    let log = OpenOptions::new().create(true).append(true).open(log).unwrap();
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    command
}

/// A command of `lab/lab`, or of the one that `QUORATE_LAB` names.
pub fn lab(args: &[&str]) -> Command {
    let lab = std::env::var_os("QUORATE_LAB")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/lab"), PathBuf::from);
    let mut command = Command::new(lab);
    command.args(args);
    command
}

/// The etcd binary of that version, from the lab. One at a time: the lab builds what it does not have.
pub fn etcd(version: &str) -> PathBuf {
    static FOUND: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let mut found = FOUND.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let found = found.get_or_insert_default();
    if let Some(path) = found.get(version) {
        return path.clone();
    }
    let output = lab(&["etcd", version])
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("lab/lab: {error}"));
    assert!(output.status.success(), "lab/lab etcd {version} failed");
    let printed = String::from_utf8(output.stdout).unwrap();
    let path = Path::new(printed.lines().last().unwrap()).join("etcd");
    found.insert(version.to_owned(), path.clone());
    path
}
