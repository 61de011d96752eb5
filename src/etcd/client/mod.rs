//! Talks to members: one gRPC channel for each Pod, and `/version` over HTTP. The only files that import
//! `etcd_client`. They report what a member says and decide nothing: no retries, no waiting.

mod channels;
mod credentials;
mod error;
mod http;
mod maintenance;
mod membership;
mod transport;

pub use channels::{Channels, Endpoint};
pub use credentials::{Credentials, CredentialsError};
pub use error::EtcdError;
pub use http::HttpError;

use self::http::Fetched;
use super::answers::{ErrorKind, Identity, Snapshots, Standstill, Versions};
use super::types::{
    Alarm, ClusterId, DowngradeCall, EtcdVersion, ListedMember, MemberId, MemberStatus, Minor,
};
use channels::Link;
use etcd_client::{AlarmAction, AlarmType, Client, DowngradeOptions, GetOptions};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long a call that reads may take. A healthy member answers in a few milliseconds; one that has
/// no quorum keeps a linearizable read for 7 s, and an observation shall not wait for that.
const READ_LIMIT: Duration = Duration::from_secs(2);
/// How long some hundred proposals may take. Beside other load, 500 with 8 under way took some two seconds.
const PROPOSALS_LIMIT: Duration = Duration::from_secs(20);
/// Proposals under way at a time. A writer beside 4 keeps nine tenths of its rate, beside 16 seven, beside 32 a quarter;
/// 10,000 take some 7 s by four, 3 s by 16 (measured, `tests/etcd/roll.rs`).
const PROPOSALS_AT_ONCE: usize = 4;
/// How long moving the leader may take. A transfer takes some 100 ms; etcd itself gives up on requests after
/// 5 s + 2 election timeouts, 7 s with its defaults, and only after that a missing answer means anything.
const MOVE_LEADER_LIMIT: Duration = Duration::from_secs(8);
/// How long a change of a downgrade job may take. 3.6 answers in some 5 ms; 3.5 carries it out and then says
/// "request timed out" after 7 s, always (measured).
const DOWNGRADE_LIMIT: Duration = Duration::from_secs(8);
/// What etcd says to VALIDATE while a job is enabled.
const JOB_IN_PROGRESS: &str = "cluster has a downgrade job in progress";

/// A call to a member, by etcd's name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `Maintenance.Status`.
    Status,
    /// `GET /version`.
    Version,
    /// A TLS handshake on the port for peers.
    Handshake,
    /// `KV.Range`, linearizable.
    Range,
    /// `Cluster.MemberList`, after a linearizable `KV.Range`.
    MemberList,
    /// `GET /metrics`.
    Metrics,
    /// `Maintenance.Alarm` with action GET.
    AlarmList,
    /// `Maintenance.MoveLeader`.
    MoveLeader,
    /// `Maintenance.Downgrade`.
    Downgrade,
    /// `Cluster.MemberAdd`, of a learner.
    MemberAdd,
    /// `Cluster.MemberPromote`.
    MemberPromote,
    /// `Cluster.MemberRemove`.
    MemberRemove,
    /// `Maintenance.HashKV`.
    HashKv,
    /// `Maintenance.Alarm` with action DEACTIVATE.
    Disarm,
    /// `KV.Compact`.
    Compact,
    /// `Maintenance.Defragment`.
    Defragment,
}

/// Talks to one member. Every call fails with an [`EtcdError`] within its limit.
#[derive(Clone, Debug)]
pub struct MemberClient {
    link: Arc<Link>,
}

/// Why a call failed, before it is known which call and whose.
enum Failure {
    Client(etcd_client::Error),
    Incomplete(&'static str),
}

impl From<etcd_client::Error> for Failure {
    fn from(error: etcd_client::Error) -> Self {
        Self::Client(error)
    }
}

impl MemberClient {
    /// What the member says of itself: local, answered without quorum and by learners too, no raft entry. Limit 2 s.
    pub async fn status(&self) -> Result<MemberStatus, EtcdError> {
        self.call(Call::Status, READ_LIMIT, status).await
    }

    /// The versions of binary, cluster and storage, by `GET /version`: local, no raft entry. Limit 2 s.
    ///
    /// Status has no cluster version; before 3.6 only this has.
    pub async fn versions(&self) -> Result<Versions, EtcdError> {
        Ok(self.versions_and_certificate().await?.0)
    }

    /// The same, with the certificate that the member showed, in DER, where it talks TLS: how it is proven which one it has.
    pub async fn versions_and_certificate(&self) -> Result<(Versions, Option<Vec<u8>>), EtcdError> {
        let call = Call::Version;
        let answer = transport::version(self.link.endpoint(), self.link.credentials());
        let Fetched { body, certificate } = self.fetch(call, answer).await?;
        let versions = Versions::in_body(&body);
        let versions =
            versions.map_err(|source| EtcdError::Versions { call, member: self.name(), source })?;
        Ok((versions, certificate))
    }

    /// The certificate that the member shows to its peers, in DER; nothing where it talks plaintext. Where it is the one that
    /// `is_expected`, it is not asked again, else every 10 s at most. Limit 2 s.
    pub async fn peer_certificate(
        &self,
        is_expected: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<Vec<u8>>, EtcdError> {
        let Some(credentials) = self.link.credentials() else { return Ok(None) };
        if let Some(known) = self.link.peer_certificate(is_expected) {
            return Ok(Some(known));
        }
        let shown = transport::peer_certificate(self.link.endpoint(), credentials);
        let shown = self.fetch(Call::Handshake, shown).await?;
        if let Some(der) = &shown {
            self.link.keep_peer_certificate(der.clone());
        }
        Ok(shown)
    }

    /// How many raft snapshots the member's process has saved on disk, by `GET /metrics`: local, no raft entry.
    /// Limit 2 s.
    pub async fn snapshots(&self) -> Result<Snapshots, EtcdError> {
        self.in_metrics("the count of its snapshots", Snapshots::in_metrics).await
    }

    /// What the member has on its disk, by `GET /metrics`: it answers also before the member has found a quorum. Limit 2 s.
    pub async fn standstill(&self) -> Result<Standstill, EtcdError> {
        self.in_metrics("its revision", Standstill::in_metrics).await
    }

    async fn in_metrics<T>(
        &self,
        missing: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, EtcdError> {
        let call = Call::Metrics;
        let body = self.fetch(call, transport::metrics(self.link.endpoint())).await?.body;
        let member = self.name();
        read(&String::from_utf8_lossy(&body)).ok_or(EtcdError::Incomplete { call, member, missing })
    }

    async fn fetch<T>(
        &self,
        call: Call,
        answer: impl Future<Output = Result<T, HttpError>>,
    ) -> Result<T, EtcdError> {
        timeout(READ_LIMIT, answer)
            .await
            .map_err(|_| EtcdError::TimedOut { call, member: self.name(), limit: READ_LIMIT })?
            .map_err(|source| EtcdError::Http { call, member: self.name(), source })
    }

    /// Whether a linearizable read through this member answers: it has a leader that has a quorum. It reads one
    /// key that need not exist; no raft entry. Limit 2 s.
    pub async fn read(&self) -> Result<(), EtcdError> {
        self.call(Call::Range, READ_LIMIT, linearizable_read).await
    }

    /// The member list as the quorum knows it, in the order of etcd; no raft entry. Limit 2 s.
    pub async fn member_list(&self) -> Result<Vec<ListedMember>, EtcdError> {
        self.call(Call::MemberList, READ_LIMIT, async |client: Arc<Client>| {
            // etcd-client asks for the list with `linearizable: false`, always, and a member that was cut off would
            // answer an old one: https://github.com/etcdv3/etcd-client/blob/829fddd8c416630a0c962670afda5a559bf4b513/src/rpc/cluster.rs#L105
            // After a linearizable read the member has applied all that was committed before it, and with
            // that, its list is the quorum's.
            linearizable_read(client.clone()).await?;
            let answer = client.cluster_client().member_list().await?;
            Ok(answer.members().iter().map(listed).collect())
        })
        .await
    }

    /// Whether a proposal commits through this member: one `AlarmList` is exactly one raft entry and touches
    /// no key. Its answer is not used; alarms are in [`MemberStatus::alarms`]. Limit 2 s.
    pub async fn commit_probe(&self) -> Result<(), EtcdError> {
        self.call(Call::AlarmList, READ_LIMIT, propose_one).await
    }

    /// Writes so many entries into the raft log that touch no key: one `AlarmList` is one. A few are under way at a
    /// time, so that writers hardly notice. Limit 20 s.
    ///
    /// # Errors
    /// The first that did not commit, though some of the others have;
    /// [`ErrorKind::WrongMember`](super::ErrorKind::WrongMember) when somebody other than `expected` answers here.
    pub async fn propose(&self, expected: Identity, entries: u32) -> Result<(), EtcdError> {
        self.call_as(expected, Call::AlarmList, PROPOSALS_LIMIT, async |client: Arc<Client>| {
            let proposals = stream::iter(0..entries).map(|_| propose_one(client.clone()));
            proposals.buffer_unordered(PROPOSALS_AT_ONCE).try_collect().await
        })
        .await
    }

    /// Makes `to` the leader. Only the leader does that, so this must be its client. Limit 8 s.
    ///
    /// # Errors
    /// [`ErrorKind::WrongMember`](super::ErrorKind::WrongMember) when somebody other than `expected` answers here:
    /// nothing was done. `NotLeader` when this member does not lead, `BadTransferee` when `to` is no voter. After
    /// `TimedOut` or `Unreachable` the leader may have moved: read it from the members' status.
    pub async fn move_leader(&self, expected: Identity, to: MemberId) -> Result<(), EtcdError> {
        // Should the channel reconnect to somebody else in between, `to` is no member there: refused.
        self.call_as(expected, Call::MoveLeader, MOVE_LEADER_LIMIT, async |client: Arc<Client>| {
            client.maintenance_client().move_leader(to.0).await?;
            Ok(())
        })
        .await
    }

    /// Whether a downgrade job is enabled, by VALIDATE of the minor below the cluster version: no raft entry. It is how
    /// a job shows where all members run 3.5; from 3.6 on [`MemberStatus::downgrade`] says more. Limit 2 s.
    ///
    /// # Errors
    /// When it answers anything else, e.g. because the cluster version has just moved.
    pub async fn has_downgrade_job(&self, cluster_version: Minor) -> Result<bool, EtcdError> {
        let below = cluster_version.previous().unwrap_or(cluster_version);
        let asked = self.call(Call::Downgrade, READ_LIMIT, async |client: Arc<Client>| {
            let options = DowngradeOptions::Validate(below.to_string());
            client.maintenance_client().downgrade(options).await?;
            Ok(())
        });
        match asked.await {
            Ok(()) => Ok(false),
            Err(error) if error.kind() == ErrorKind::Refused(JOB_IN_PROGRESS.to_owned()) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Begins a downgrade job, or gives one up. Limit 8 s.
    ///
    /// # Errors
    /// [`ErrorKind::WrongMember`](super::ErrorKind::WrongMember) when somebody other than `expected` answers here:
    /// nothing was done. After `TimedOut` or `Unreachable` it may have taken effect, and on 3.5 it has: read it.
    pub async fn downgrade(&self, expected: Identity, call: DowngradeCall) -> Result<(), EtcdError> {
        self.call_as(expected, Call::Downgrade, DOWNGRADE_LIMIT, async |client: Arc<Client>| {
            let options = match call {
                DowngradeCall::Enable(minor) => DowngradeOptions::Enable(minor.to_string()),
                DowngradeCall::Cancel => DowngradeOptions::Cancel,
            };
            client.maintenance_client().downgrade(options).await?;
            Ok(())
        })
        .await
    }

    /// Makes one call on the Pod's channel, within `limit`, where `expected` answers there and nobody else.
    async fn call_as<F>(
        &self,
        expected: Identity,
        call: Call,
        limit: Duration,
        ask: impl FnOnce(Arc<Client>) -> F,
    ) -> Result<(), EtcdError>
    where
        F: Future<Output = Result<(), Failure>>,
    {
        let found = self
            .call(call, limit, async |client: Arc<Client>| {
                let found = status(client.clone()).await?.identity();
                if found == expected {
                    ask(client).await?;
                }
                Ok(found)
            })
            .await?;
        if found == expected {
            Ok(())
        } else {
            Err(EtcdError::WrongMember { call, member: self.name(), expected, found })
        }
    }

    /// Makes one call on the Pod's channel, within `limit`.
    async fn call<T, F>(
        &self,
        call: Call,
        limit: Duration,
        ask: impl FnOnce(Arc<Client>) -> F,
    ) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let member = || self.name();
        let channel = self.link.channel().await;
        let (dialled, client) = channel.map_err(|source| EtcdError::Client {
            call,
            member: member(),
            source: Box::new(source),
        })?;
        // Boxed for its size, as in `Link::channel`.
        let error = match timeout(limit, Box::pin(ask(client))).await {
            Ok(Ok(answer)) => return Ok(answer),
            Err(_) => EtcdError::TimedOut { call, member: member(), limit },
            Ok(Err(Failure::Incomplete(missing))) => {
                EtcdError::Incomplete { call, member: member(), missing }
            }
            // The status is taken out: the source() of etcd-client's error is None.
            Ok(Err(Failure::Client(etcd_client::Error::GRpcStatus(status)))) => {
                EtcdError::Grpc { call, member: member(), source: Box::new(status) }
            }
            Ok(Err(Failure::Client(source))) => {
                EtcdError::Client { call, member: member(), source: Box::new(source) }
            }
        };
        if error.doubts_the_channel() {
            self.link.hang_up(dialled);
        }
        Err(error)
    }

    fn name(&self) -> String {
        let Endpoint { server_name, ip, .. } = self.link.endpoint();
        format!("{server_name} ({ip})")
    }
}

async fn status(client: Arc<Client>) -> Result<MemberStatus, Failure> {
    let answer = client.maintenance_client().status().await?;
    let header = answer.header().ok_or(Failure::Incomplete("header"))?;
    Ok(MemberStatus {
        cluster_id: ClusterId(header.cluster_id()),
        member_id: MemberId(header.member_id()),
        version: EtcdVersion::reported(answer.version()).ok_or(Failure::Incomplete("version"))?,
        leader: Some(answer.leader()).filter(|id| *id != 0).map(MemberId),
        raft_term: answer.raft_term(),
        raft_index: answer.raft_index(),
        raft_applied_index: answer.raft_applied_index(),
        revision: header.revision(),
        db_size: answer.db_size(),
        db_size_in_use: answer.raft_used_db_size(),
        is_learner: answer.is_learner(),
        alarms: alarms(answer.errors()),
        downgrade: answer
            .downgrade_info()
            .filter(|job| job.enabled())
            .and_then(|job| EtcdVersion::reported(job.target_version()))
            .map(|version| version.minor),
    })
}

async fn propose_one(client: Arc<Client>) -> Result<(), Failure> {
    client.maintenance_client().alarm(AlarmAction::Get, AlarmType::None, None).await?;
    Ok(())
}

async fn linearizable_read(client: Arc<Client>) -> Result<(), Failure> {
    // Any key does. This one is etcdctl's for `endpoint health`.
    let options = GetOptions::new().with_count_only().with_limit(1);
    client.kv_client().get("health", Some(options)).await?;
    Ok(())
}

/// The alarms among `Status.errors`, each once: etcd lists one for every member that raised it.
fn alarms(errors: &[String]) -> Vec<Alarm> {
    let mut alarms: Vec<Alarm> = errors.iter().filter_map(|text| Alarm::in_status_error(text)).collect();
    alarms.sort_unstable();
    alarms.dedup();
    alarms
}

fn listed(member: &etcd_client::Member) -> ListedMember {
    ListedMember {
        id: MemberId(member.id()),
        name: member.name().to_owned(),
        peer_urls: member.peer_urls().to_vec(),
        client_urls: member.client_urls().to_vec(),
        is_learner: member.is_learner(),
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status => "Status",
            Self::Version => "GET /version",
            Self::Handshake => "TLS handshake",
            Self::Range => "linearizable Range",
            Self::MemberList => "MemberList",
            Self::Metrics => "GET /metrics",
            Self::AlarmList => "AlarmList",
            Self::MoveLeader => "MoveLeader",
            Self::Downgrade => "Downgrade",
            Self::MemberAdd => "MemberAdd",
            Self::MemberPromote => "MemberPromote",
            Self::MemberRemove => "MemberRemove",
            Self::HashKv => "HashKV",
            Self::Disarm => "AlarmDisarm",
            Self::Compact => "Compact",
            Self::Defragment => "Defragment",
        })
    }
}
