//! Data that was damaged, differs, or is too much: what etcd says of it, and what is done about it.

use crate::driver::Rest;
use crate::harness::Cluster;
use crate::planned::{LONG, settled};
use crate::roll::{assert_nothing_lost, load};
use quorate::etcd::Alarm;
use quorate::etcd::logs::{says_data_dir_is_empty, says_data_is_unusable};
use rstest::rstest;
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What happens to a disk.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// Some KiB in the middle of the WAL are others.
    WalInTheMiddle,
    /// The WAL's first file is empty.
    WalWithoutBeginning,
    /// The WAL was cut off: etcd takes that for an entry that was being written.
    WalCutOff,
    /// The WAL is gone, and the database is there.
    WalGone,
    /// The database's meta pages are others.
    DatabaseHead,
    /// Its pages are, and the meta pages are whole.
    DatabaseBody,
    /// It ends after its first page.
    DatabaseCutOff,
    /// It is gone, and a raft snapshot was taken.
    DatabaseGone,
}

/// Bytes that are no WAL record and no page, the same in every run.
fn noise(length: usize) -> Vec<u8> {
    let numbers =
        std::iter::successors(Some(7_u32), |n| Some(n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)));
    numbers.map(|n| n.to_be_bytes()[0]).take(length).collect()
}

fn overwrite(file: &Path, at: u64, length: usize) {
    let mut file = OpenOptions::new().write(true).open(file).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&noise(length)).unwrap();
}

fn cut_off(file: &Path, at: u64) {
    OpenOptions::new().write(true).open(file).unwrap().set_len(at).unwrap();
}

fn first_wal(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir.join("member/wal")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|ext| ext == "wal")).min().unwrap()
}

fn damage(dir: &Path, damage: Damage) {
    let database = dir.join("member/snap/db");
    match damage {
        Damage::WalInTheMiddle => overwrite(&first_wal(dir), 20_000, 4096),
        Damage::WalWithoutBeginning => cut_off(&first_wal(dir), 0),
        Damage::WalCutOff => cut_off(&first_wal(dir), 30_000),
        Damage::WalGone => fs::remove_dir_all(dir.join("member/wal")).unwrap(),
        Damage::DatabaseHead => overwrite(&database, 0, 8192),
        Damage::DatabaseBody => {
            let size = fs::metadata(&database).unwrap().len();
            overwrite(&database, 8192, usize::try_from(size - 8192).unwrap());
        }
        Damage::DatabaseCutOff => cut_off(&database, 4096),
        Damage::DatabaseGone => fs::remove_file(database).unwrap(),
    }
}

async fn fill(cluster: &Cluster, keys: usize) {
    let mut client = etcd_client::Client::connect([cluster.client_url(0)], None).await.unwrap();
    for n in 0..keys {
        client.put(format!("filled/{n}"), "v".repeat(3000), None).await.unwrap();
    }
}

/// One that lost its WAL says the same as one that finds nothing, and has a vote to lose as well.
#[rstest]
#[tokio::test]
async fn etcd_says_what_is_wrong_with_its_data(
    #[values("3.5.9", "3.5.35", "3.6.16", "3.7.3")] version: &str,
) {
    let mut cluster = Cluster::unstarted(3);
    cluster.extra_args = vec!["--snapshot-count=20".to_owned()];
    for n in 0..3 {
        cluster.start(n, version);
    }
    cluster.formed(version).await;
    fill(&cluster, 60).await;
    cluster.stop(1).await;
    let whole = tempfile::tempdir().unwrap();
    let dir = cluster.data_dir(1);
    copy(&dir, whole.path());
    for (kind, says) in [
        (Damage::WalInTheMiddle, Some("a damaged WAL")),
        (Damage::WalWithoutBeginning, Some("a WAL without its beginning")),
        (Damage::WalCutOff, Some("a WAL that has lost entries")),
        (Damage::WalGone, None),
        (Damage::DatabaseHead, Some("a damaged database")),
        (Damage::DatabaseBody, Some("a damaged page of the database")),
        (Damage::DatabaseCutOff, Some("a database that was cut off")),
        (Damage::DatabaseGone, Some("a missing database")),
    ] {
        fs::remove_dir_all(&dir).unwrap();
        copy(whole.path(), &dir);
        damage(&dir, kind);
        let said_before = cluster.log(1).len();
        cluster.start_guarded(1, version);
        cluster.process(1).ended(Duration::from_secs(20)).await;
        let log = cluster.log(1)[said_before..].to_owned();
        cluster.kill(1);
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(120)..].join("\n");
        // 3.7.3 ends with a nil pointer, by which nothing can be told.
        let says = says.filter(|_| !(version == "3.7.3" && matches!(kind, Damage::WalWithoutBeginning)));
        assert_eq!(says_data_is_unusable(&end), says, "{kind:?}: {end}");
        assert_eq!(says_data_dir_is_empty(&end), matches!(kind, Damage::WalGone), "{kind:?}: {end}");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.as_ref().unwrap().path(), to.join(entry.as_ref().unwrap().file_name()));
        if entry.is_dir() {
            copy(&entry, &to);
        } else {
            fs::copy(&entry, &to).unwrap();
        }
    }
}

#[rstest]
#[tokio::test]
async fn a_member_whose_data_is_damaged_is_replaced(
    #[values("3.5.9", "3.6.16", "3.7.3")] version: &str,
    #[values(Damage::WalInTheMiddle, Damage::DatabaseBody)] kind: Damage,
) {
    let mut driven = settled(&format!("{{version: {version}, rollout: {{memberDeadline: 10s}}}}")).await;
    driven.etcd.make_room_for(4);
    fill(&driven.etcd, 60).await;
    let writers = load(&driven.etcd).await;
    driven.etcd.kill(1);
    damage(&driven.etcd.data_dir(1), kind);
    driven.etcd.start_guarded(1, version);
    assert_eq!(driven.rest(LONG).await, Rest::Settled);
    assert_eq!(driven.etcd.present(), [0, 2, 3]);
    assert_nothing_lost(writers, &driven.etcd).await;
}

/// Wrong in its database, and whole in every page: only the keys tell.
fn change_a_value(dir: &Path) {
    let database = dir.join("member/snap/db");
    let mut bytes = fs::read(&database).unwrap();
    let (old, new) = (b"the-right-value-of-a-key", b"the-wrong-value-of-a-key");
    let places: Vec<usize> =
        (0..bytes.len() - old.len()).filter(|at| bytes[*at..].starts_with(old)).collect();
    assert!(!places.is_empty(), "the value is not in the database");
    for at in places {
        bytes[at..at + new.len()].copy_from_slice(new);
    }
    fs::write(database, bytes).unwrap();
}

/// The members compare their keys by themselves, and the alarm says so. Which of them it names is not asked.
#[rstest]
#[tokio::test]
async fn the_one_whose_keys_differ_is_replaced_and_the_alarm_taken_back(
    #[values("3.5.35", "3.6.16", "3.7.3")] version: &str,
    #[values(false, true)] leads: bool,
) {
    let check =
        if version.starts_with("3.5") { "experimental-corrupt-check-time" } else { "corrupt-check-time" };
    let yaml = format!(
        "{{version: {version}, rollout: {{memberDeadline: 10s}}, etcd: {{extraArgs: {{{check}: 2s}}}}}}"
    );
    let mut driven = settled(&yaml).await;
    driven.etcd.make_room_for(4);
    let mut client = etcd_client::Client::connect([driven.etcd.client_url(0)], None).await.unwrap();
    client.put("k", "the-right-value-of-a-key", None).await.unwrap();
    driven.etcd.stop(1).await;
    change_a_value(&driven.etcd.data_dir(1));
    driven.etcd.start_guarded(1, version);
    driven
        .until("the alarm is set", LONG, |world, _| {
            let mut statuses = world.answers.values().filter_map(|answer| answer.status());
            statuses.any(|status| status.alarms.contains(&Alarm::Corrupt)).then_some(())
        })
        .await;
    if leads {
        let (leader, to) = (driven.etcd.leader().await, driven.etcd.status(1).await.member_id);
        let identity = driven.etcd.status(leader).await.identity();
        if leader != 1 {
            driven.etcd.client(leader).move_leader(identity, to).await.unwrap();
        }
    }
    assert_eq!(driven.rest(LONG).await, Rest::Settled);
    assert_eq!(driven.etcd.present(), [0, 2, 3]);
    driven.etcd.hash().await;
    let mut client = etcd_client::Client::connect([driven.etcd.client_url(3)], None).await.unwrap();
    let value = client.get("k", None).await.unwrap();
    assert_eq!(value.kvs()[0].value_str().unwrap(), "the-right-value-of-a-key");
    client.put("k", "still writable", None).await.unwrap();
}

/// Writes values over and over until the database is full, and goes on trying: a watch and the writers see nothing lost.
#[rstest]
#[tokio::test]
async fn a_full_database_is_made_room_in_and_the_alarm_taken_back(
    #[values("3.5.9", "3.6.16", "3.7.3")] version: &str,
    #[values(1, 3)] members: usize,
) {
    let yaml = format!(
        "{{version: {version}, replicas: {members}, rollout: {{memberDeadline: 20s}}, etcd: {{quotaBackendBytes: 16Mi}}}}"
    );
    let mut driven = settled(&yaml).await;
    let mut client = etcd_client::Client::connect([driven.etcd.client_url(0)], None).await.unwrap();
    let mut written = 0;
    let refused = loop {
        match client.put(format!("over/{}", written % 4), "v".repeat(64 << 10), None).await {
            Ok(_) => written += 1,
            Err(error) => break error.to_string(),
        }
    };
    assert!(refused.contains("database space exceeded"), "{refused}");
    assert_eq!(driven.rest(LONG).await, Rest::Settled);
    for n in driven.etcd.present() {
        let status = driven.etcd.status(n).await;
        assert!(status.alarms.is_empty() && status.db_size < 4 << 20, "{status:?}");
    }
    client.put("over/0", "again", None).await.unwrap();
    driven.etcd.hash().await;
}
