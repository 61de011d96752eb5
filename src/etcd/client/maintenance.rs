//! What keeps a database whole and small: hashes, compaction, defragmentation, and the alarms that go with them.

use super::{Call, EtcdError, Failure, MemberClient};
use crate::etcd::answers::{Identity, KvHash};
use crate::etcd::types::Alarm;
use etcd_client::{AlarmAction, AlarmOptions, AlarmType, Client, CompactionOptions};
use std::sync::Arc;
use std::time::Duration;

/// How long a look through all keys may take: some seconds for each GiB.
const HASH_LIMIT: Duration = Duration::from_secs(20);
/// As of any proposal: etcd itself gives up after 7 s with its defaults.
const PROPOSAL_LIMIT: Duration = Duration::from_secs(8);
/// How long is waited for a defragmentation: 10 to 15 s for 1.4 GB (measured). It goes on where nobody waits for it.
const DEFRAGMENT_LIMIT: Duration = Duration::from_secs(15);

impl MemberClient {
    /// The hash of all keys and their history up to a revision, by `HashKV`: of this member's own database, no raft
    /// entry, answered under any alarm. It reads every key, so it is asked once for each run of the member's container.
    /// Limit 20 s.
    ///
    /// # Errors
    /// Also where that revision is compacted, or not there yet.
    pub async fn hash_kv(&self, revision: i64, run: i32) -> Result<KvHash, EtcdError> {
        if let Some(known) = self.link.hash_of(revision, run) {
            return Ok(known);
        }
        let hash = self.ask_hash_kv(revision).await?;
        self.link.keep_hash(revision, run, hash);
        Ok(hash)
    }

    async fn ask_hash_kv(&self, revision: i64) -> Result<KvHash, EtcdError> {
        self.call(Call::HashKv, HASH_LIMIT, async |client: Arc<Client>| {
            let answer = client.maintenance_client().hash_kv(revision).await?;
            Ok::<_, Failure>(KvHash { hash: answer.hash(), compacted: answer.compact_version() })
        })
        .await
    }

    /// Takes back every alarm of a kind, whichever member raised it. Each is one raft entry. Limit 8 s.
    ///
    /// # Errors
    /// [`ErrorKind::WrongMember`](crate::etcd::ErrorKind::WrongMember) when somebody other than `expected` answers here:
    /// nothing was done. After any other some may be taken back.
    pub async fn disarm(&self, expected: Identity, alarm: Alarm) -> Result<(), EtcdError> {
        let kind = match alarm {
            Alarm::NoSpace => AlarmType::Nospace,
            Alarm::Corrupt => AlarmType::Corrupt,
        };
        self.call_as(expected, Call::Disarm, PROPOSAL_LIMIT, async |client: Arc<Client>| {
            let set = client.maintenance_client().alarm(AlarmAction::Get, AlarmType::None, None).await?;
            for raised in set.alarms().iter().filter(|raised| raised.alarm() == kind) {
                let mut by = AlarmOptions::new();
                by.with_member(raised.member_id());
                client.maintenance_client().alarm(AlarmAction::Deactivate, kind, Some(by)).await?;
            }
            Ok::<(), Failure>(())
        })
        .await
    }

    /// Forgets every revision before this one, and waits until that is done. One raft entry. Limit 8 s; it goes on where
    /// that is over.
    ///
    /// # Errors
    /// As of [`Self::disarm`]; `AlreadySo` where it is compacted already.
    pub async fn compact(&self, expected: Identity, revision: i64) -> Result<(), EtcdError> {
        self.call_as(expected, Call::Compact, PROPOSAL_LIMIT, async |client: Arc<Client>| {
            client.kv_client().compact(revision, Some(CompactionOptions::new().with_physical())).await?;
            Ok::<(), Failure>(())
        })
        .await
    }

    /// Gives what the database does not use back to the disk. The member serves nobody meanwhile, and needs room for a
    /// second copy. No raft entry. Limit 15 s; it goes on where that is over.
    ///
    /// # Errors
    /// As of [`Self::disarm`].
    pub async fn defragment(&self, expected: Identity) -> Result<(), EtcdError> {
        self.call_as(expected, Call::Defragment, DEFRAGMENT_LIMIT, async |client: Arc<Client>| {
            client.maintenance_client().defragment().await?;
            Ok::<(), Failure>(())
        })
        .await
    }
}
