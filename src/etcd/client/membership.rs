//! Changes of the member list. Each is one raft entry, made through the leader, and its effect is read, never taken from
//! the answer. What etcd takes not yet, and what is so already, are kinds of their own.

use super::{Call, EtcdError, Failure, MemberClient};
use crate::etcd::answers::Identity;
use crate::etcd::types::MemberId;
use etcd_client::{Client, MemberAddOptions};
use std::sync::Arc;
use std::time::Duration;

/// How long a change may take. etcd itself gives up on a request after 5 s + 2 election timeouts, 7 s with its defaults.
const LIMIT: Duration = Duration::from_secs(8);

impl MemberClient {
    /// Adds a learner that will be reached at this peer URL. Limit 8 s.
    ///
    /// # Errors
    /// [`ErrorKind::WrongMember`](crate::etcd::ErrorKind::WrongMember) when somebody other than `expected` answers here:
    /// nothing was done. `AlreadySo` where that URL is listed, `NotYet` or `Unhealthy` while etcd takes no change. After
    /// `TimedOut` or `Unreachable` it may have taken effect.
    pub async fn add_learner(&self, expected: Identity, peer_url: String) -> Result<(), EtcdError> {
        self.call_as(expected, Call::MemberAdd, LIMIT, async |client: Arc<Client>| {
            let options = MemberAddOptions::new().with_is_learner();
            client.cluster_client().member_add(vec![peer_url], Some(options)).await?;
            Ok::<(), Failure>(())
        })
        .await
    }

    /// Makes a learner a voter. Limit 8 s.
    ///
    /// # Errors
    /// As of [`Self::add_learner`]; `NotYet` while the learner is not in sync with the leader, `AlreadySo` where it votes
    /// already or is not listed.
    pub async fn promote(&self, expected: Identity, learner: MemberId) -> Result<(), EtcdError> {
        self.call_as(expected, Call::MemberPromote, LIMIT, async |client: Arc<Client>| {
            client.cluster_client().member_promote(learner.0).await?;
            Ok::<(), Failure>(())
        })
        .await
    }

    /// Removes a member. Its id never comes back. Limit 8 s.
    ///
    /// # Errors
    /// As of [`Self::add_learner`]; `AlreadySo` where it is not listed.
    pub async fn remove_member(&self, expected: Identity, member: MemberId) -> Result<(), EtcdError> {
        self.call_as(expected, Call::MemberRemove, LIMIT, async |client: Arc<Client>| {
            client.cluster_client().member_remove(member.0).await?;
            Ok::<(), Failure>(())
        })
        .await
    }
}
