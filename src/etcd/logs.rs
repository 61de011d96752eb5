//! What is read from etcd's own output: few lines, each measured on real binaries by `tests/etcd`. Pure.

use super::types::EtcdVersion;

/// What etcd says, last, before it exits 1 because it was started with `--initial-cluster-state=existing`
/// on a directory without a WAL and could ask no other member about the cluster. 3.5.9, 3.5.35, 3.6.16 and
/// 3.7.3 print it as the `error` of the message `discovery failed`.
///
/// Source: `bootstrapExistingClusterNoWAL` in
/// <https://github.com/etcd-io/etcd/blob/v3.6.4/server/etcdserver/bootstrap.go>, with the error of
/// `GetClusterFromRemotePeers`.
const NO_WAL_AND_NOBODY_TO_ASK: &str =
    "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs";

/// Whether the log is that of a member that found its data directory empty and therefore did not start.
///
/// Under the guard (`--initial-cluster=<only itself> --initial-cluster-state=existing`) there is nobody to
/// ask, so this is how an emptied volume shows. Without it the text has a second cause: a member that starts
/// for the first time, and cannot reach the others. Where a WAL exists etcd never gets here.
pub fn says_data_dir_is_empty(log: &str) -> bool {
    log.contains(NO_WAL_AND_NOBODY_TO_ASK)
}

/// What is wrong with data that etcd cannot open, by its own words. It is a closed list: whatever else keeps a member from
/// starting may have to do with the disk, the node or the flags, and its data may be whole. Each is said by 3.5.9,
/// 3.5.35, 3.6.16 and 3.7.3, but for what is noted (measured, `tests/etcd/damage.rs`).
///
/// Sources: `server/storage/wal` (`ReadAll`), `server/storage/backend` (`newBackend`), `server/etcdserver/bootstrap.go`
/// of <https://github.com/etcd-io/etcd/tree/v3.6.16>, `raft.go` (`commitTo`) of <https://github.com/etcd-io/raft>,
/// `page.go` (`fastCheck`) of <https://github.com/etcd-io/bbolt>
const DAMAGES: [(&[&str], &str); 7] = [
    (&["walpb: crc mismatch"], "a damaged WAL"),
    // 3.7 ends with a nil pointer instead, which may be anything.
    (&["cannot use none as id"], "a WAL without its beginning"),
    (&["failed to open database", "\"error\":\"invalid database\""], "a damaged database"),
    (&["failed to open database", "\"error\":\"file size too small"], "a database that was cut off"),
    (
        &["failed to recover v3 backend from snapshot", "failed to find database snapshot file"],
        "a missing database",
    ),
    (&["Page expected to be: ", "but self identifies as "], "a damaged page of the database"),
    (&["tocommit(", "is out of range [lastIndex("], "a WAL that has lost entries"),
];

/// What is wrong with the data of a member that cannot open it, where its log tells.
pub fn says_data_is_unusable(log: &str) -> Option<&'static str> {
    let says_all = |words: &[&str]| words.iter().all(|word| log.contains(word));
    DAMAGES.iter().find(|(words, _)| says_all(words)).map(|(_, damage)| *damage)
}

/// Whether the log is that of a binary whose minor is below the cluster version: it does not start on this data any more.
/// 3.5.35 says the first, 3.6.16 the second (measured on data that a newer minor had raised).
pub fn says_binary_is_below_the_cluster_version(log: &str) -> bool {
    log.contains("server version is lower than determined cluster version")
        || (log.contains("discovery failed") && log.contains("is not supported"))
}

/// Whether the log is that of a member of 3.5 that does not start because a downgrade job is enabled that leads to
/// another minor than its own. Its data remembers the job even after that was cancelled; one start on 3.6 makes it
/// forget (measured).
///
/// Source: `mustDetectDowngrade` in
/// <https://github.com/etcd-io/etcd/blob/v3.5.9/server/etcdserver/api/membership/downgrade.go>
pub fn says_a_downgrade_keeps_it_out(log: &str) -> bool {
    log.contains("server version is not allowed to join when downgrade is enabled")
}

/// Whether `etcdutl check v2store` found data of the v2 API: in the snapshot, in the WAL, or in both.
///
/// Source: `checkV2StoreCommandFunc` in <https://github.com/etcd-io/etcd/blob/release-3.5/etcdutl/etcdutl/check_command.go>
pub fn says_v2_data_was_found(log: &str) -> bool {
    log.contains("detected custom")
}

/// The line of a log that tells best why a process ended: a panic, the last fatal or error line, or else the last one.
/// At most 200 characters of it.
pub fn cause(log: &str) -> Option<String> {
    const MOST: usize = 200;
    let lines = || log.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_grave = |line: &&str| {
        ["fatal", "panic", "error"].iter().any(|level| line.contains(&format!("\"level\":\"{level}\"")))
    };
    let line = lines()
        .find(|line| line.starts_with("panic:"))
        .or_else(|| lines().rfind(is_grave))
        .or_else(|| lines().next_back())?;
    let rest = if line.chars().nth(MOST).is_some() { "…" } else { "" };
    Some(line.chars().take(MOST).chain(rest.chars()).collect())
}

/// What etcd says as its start gets further, each before something that takes long where there is much data: opening the
/// backend (the freelist of bbolt is read), reading the WAL, building the index of keys, applying entries; and
/// receiving a snapshot from the leader. All of 3.5 to 3.7 say these (measured).
///
/// Source: `server/embed/etcd.go`, `server/etcdserver/{bootstrap,server,raft}.go`, `server/storage/backend.go`,
/// `server/storage/mvcc/kvstore.go` and `server/etcdserver/api/rafthttp/http.go` of
/// <https://github.com/etcd-io/etcd/tree/v3.6.16>
const STAGES_OF_A_START: [&str; 11] = [
    "starting an etcd server",
    "opened backend db",
    "restarting local member",
    "kvstore restored",
    "starting etcd server",
    "now serving peer/client/metrics",
    "receiving database snapshot",
    "received and saved database snapshot",
    "applying snapshot",
    "applied snapshot",
    "published local member to cluster through raft",
];

/// How many different stages of a start a log tells of. What is said again counts once.
pub fn stages_of_a_start(log: &str) -> u32 {
    STAGES_OF_A_START.iter().map(|stage| u32::from(log.contains(stage))).sum()
}

/// The version in what `etcd --version` prints, whose first line is `etcd Version: 3.6.16`.
pub fn version_in_version_output(output: &str) -> Option<EtcdVersion> {
    output
        .lines()
        .find_map(|line| line.strip_prefix("etcd Version: "))
        .and_then(|v| EtcdVersion::reported(v.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "etcd Version: 3.6.16\nGit SHA: 4a1b2c3\nGo Version: go1.24.9\n",
        Some(EtcdVersion::new(3, 6, 16))
    )]
    #[case("some wrapper says hello\netcd Version: 3.5.9\r\n", Some(EtcdVersion::new(3, 5, 9)))]
    #[case("etcd Version: 3.7.0-rc.0\n", Some(EtcdVersion::new(3, 7, 0)))]
    #[case("etcdctl version: 3.6.16\n", None)]
    #[case("", None)]
    fn reads_the_version_that_a_binary_prints(#[case] output: &str, #[case] version: Option<EtcdVersion>) {
        assert_eq!(version_in_version_output(output), version);
    }

    #[rstest]
    #[case::a_panic(
        "a\npanic: it does not start\n\ngoroutine 1 [running]:\nmain.main()\n",
        Some("panic: it does not start")
    )]
    #[case::fatal(
        "{\"level\":\"info\"}\n{\"level\":\"fatal\",\"msg\":\"x\"}\n{\"level\":\"info\"}\n",
        Some("{\"level\":\"fatal\",\"msg\":\"x\"}")
    )]
    #[case::words("flag provided but not defined\n  \n", Some("flag provided but not defined"))]
    #[case::nothing("\n", None)]
    fn the_cause_is_the_line_that_tells_most(#[case] log: &str, #[case] line: Option<&str>) {
        assert_eq!(cause(log).as_deref(), line);
    }

    #[rstest]
    #[case(r#"{"msg":"discovery failed","error":"version \"3.7.0\" is not supported"}"#, false)]
    #[case(r#"{"msg":"discovery failed","error":"cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs"}"#, true)]
    fn tells_an_empty_directory_from_other_failures(#[case] log: &str, #[case] empty: bool) {
        assert_eq!(says_data_dir_is_empty(log), empty);
    }

    #[rstest]
    #[case(r#"{"msg":"discovery failed","error":"version \"3.7.0\" is not supported"}"#, true)]
    #[case(r#"{"level":"fatal","msg":"invalid downgrade; server version is lower than determined cluster version"}"#, true)]
    #[case(r#"{"msg":"discovery failed","error":"cannot fetch cluster info from peer urls"}"#, false)]
    fn tells_a_binary_that_is_too_old(#[case] log: &str, #[case] old: bool) {
        assert_eq!(says_binary_is_below_the_cluster_version(log), old);
    }
}
