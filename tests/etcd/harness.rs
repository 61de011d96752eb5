//! Starts real etcd processes on loopback. Every member has an address of its own within 127/8, so that the
//! standard ports can be used, as in Pods. A process is ended when its `Cluster` is dropped, and by the kernel if
//! the test's thread dies.

use crate::processes;
use quorate::etcd::{Channels, Endpoint, EtcdVersion, MemberClient, MemberStatus, Minor};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::Once;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A limit of 2 s, and what a busy machine adds.
pub const READ_LIMIT: Duration = Duration::from_millis(2500);
/// A limit of 8 s, and the same.
pub const MOVE_LEADER_LIMIT: Duration = Duration::from_millis(8500);

/// The scope of the channels: one cluster.
pub const SCOPE: &str = "test";

/// A cluster of real processes.
pub struct Cluster {
    dir: TempDir,
    members: Vec<Member>,
    /// Of all addresses.
    network: [u8; 2],
    pub channels: Channels,
    /// What members are started with besides the usual.
    pub extra_args: Vec<String>,
    /// The same for each member.
    pub args_of: Vec<Vec<String>>,
    pub scheme: &'static str,
}

struct Member {
    ip: Ipv4Addr,
    process: Option<Process>,
}

/// An etcd process; killed on drop.
pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// Waits until it has ended by itself.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < limit, "etcd still runs after {limit:?}");
            pause().await;
        }
    }
}

impl Cluster {
    /// Starts `size` members with a static bootstrap and waits until they have formed a cluster.
    pub async fn of(size: u8, version: &str) -> Self {
        let mut cluster = Self::unstarted(size);
        for n in 0..cluster.size() {
            cluster.start(n, version);
        }
        cluster.formed(version).await;
        cluster
    }

    /// Addresses and a folder for `size` members.
    pub fn unstarted(size: u8) -> Self {
        static PROVIDER: Once = Once::new();
        static NEXT: AtomicU8 = AtomicU8::new(1);
        PROVIDER.call_once(|| rustls::crypto::ring::default_provider().install_default().unwrap());
        // Runs side by side differ in the second octet, tests of one run in the third.
        let run = u8::try_from(1 + std::process::id() % 250).unwrap();
        let test = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut cluster = Self {
            dir: TempDir::new().unwrap(),
            members: Vec::new(),
            network: [run, test],
            channels: Channels::default(),
            extra_args: Vec::new(),
            args_of: Vec::new(),
            scheme: "http",
        };
        cluster.make_room_for(size.into());
        cluster
    }

    /// Addresses for so many members.
    pub fn make_room_for(&mut self, size: usize) {
        let [run, test] = self.network;
        while self.members.len() < size {
            let n = u8::try_from(self.members.len() + 1).unwrap();
            self.members.push(Member { ip: Ipv4Addr::new(127, run, test, n), process: None });
        }
    }

    /// Members that have a process.
    pub fn present(&self) -> Vec<usize> {
        (0..self.size()).filter(|n| self.members[*n].process.is_some()).collect()
    }

    pub fn size(&self) -> usize {
        self.members.len()
    }

    pub fn name(n: usize) -> String {
        format!("etcd-{n}")
    }

    pub fn client_url(&self, n: usize) -> String {
        format!("{}://{}:2379", self.scheme, self.members[n].ip)
    }

    pub fn peer_url(&self, n: usize) -> String {
        format!("{}://{}:2380", self.scheme, self.members[n].ip)
    }

    pub fn endpoint(&self, n: usize) -> Endpoint {
        Endpoint {
            pod_uid: format!("uid-{n}"),
            ip: IpAddr::V4(self.members[n].ip),
            server_name: format!("{}.etcd.default.svc", Self::name(n)),
        }
    }

    pub fn client(&self, n: usize) -> MemberClient {
        self.channels.member(SCOPE, &self.endpoint(n))
    }

    pub fn data_dir(&self, n: usize) -> PathBuf {
        self.dir.path().join(Self::name(n))
    }

    pub fn log(&self, n: usize) -> String {
        std::fs::read_to_string(self.log_file(n)).unwrap_or_default()
    }

    fn log_file(&self, n: usize) -> PathBuf {
        self.dir.path().join(format!("{}.log", Self::name(n)))
    }

    /// Starts a member as at bootstrap.
    pub fn start(&mut self, n: usize, version: &str) {
        let all: Vec<_> = (0..self.size()).collect();
        self.start_with(n, version, &all, "new");
    }

    /// Starts a member under the guard: etcd ignores these arguments where a WAL exists, and does not start
    /// where none does.
    pub fn start_guarded(&mut self, n: usize, version: &str) {
        self.start_with(n, version, &[n], "existing");
    }

    /// Starts a member with that initial cluster and state.
    pub fn start_with(&mut self, n: usize, version: &str, initial: &[usize], state: &str) {
        let initial: Vec<_> =
            initial.iter().map(|i| format!("{}={}", Self::name(*i), self.peer_url(*i))).collect();
        let (client, peer) = (self.client_url(n), self.peer_url(n));
        let child = processes::command(processes::etcd(version), &self.log_file(n))
            .args(["--name", &Self::name(n), "--data-dir"])
            .arg(self.data_dir(n))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--listen-metrics-urls", &format!("http://{}:2381", self.members[n].ip)])
            .args(["--initial-cluster", &initial.join(","), "--initial-cluster-state", state])
            .args(["--initial-cluster-token", "quorate-test", "--heartbeat-interval", "50"])
            .args(["--election-timeout", "500"])
            .args(&self.extra_args)
            .args(self.args_of.get(n).into_iter().flatten())
            .env_clear()
            .spawn()
            .unwrap();
        self.members[n].process = Some(Process(child));
    }

    pub fn ip(&self, n: usize) -> IpAddr {
        IpAddr::V4(self.members[n].ip)
    }

    /// The exit code of a member that has ended by itself; nothing while it runs.
    pub fn exit_code(&mut self, n: usize) -> Option<i32> {
        self.members[n].process.as_mut()?.0.try_wait().unwrap().map(|status| status.code().unwrap_or(137))
    }

    /// The process of a member, while there is one.
    pub fn pid(&self, n: usize) -> Option<u32> {
        self.members[n].process.as_ref().map(|process| process.0.id())
    }

    pub fn process(&mut self, n: usize) -> &mut Process {
        self.members[n].process.as_mut().expect("a started member")
    }

    /// Ends a member as the kubelet does: it may hand over leadership.
    pub async fn stop(&mut self, n: usize) {
        let process = self.process(n);
        let pid = process.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        process.ended(Duration::from_secs(20)).await;
        self.members[n].process = None;
    }

    /// Ends a member at once.
    pub fn kill(&mut self, n: usize) {
        self.members[n].process = None;
    }

    /// Waits until every member serves reads and knows the cluster version.
    pub async fn formed(&self, version: &str) {
        let minor = reported(version).minor;
        for n in 0..self.size() {
            self.eventually(&format!("{} has formed", Self::name(n)), Duration::from_secs(20), async || {
                let client = self.client(n);
                client.read().await.is_ok()
                    && client
                        .versions()
                        .await
                        .is_ok_and(|v| v.cluster == Some(minor) && storage_is_set(v.storage, minor))
            })
            .await;
        }
    }

    /// Waits until `holds`, and shows the end of every log if it does not.
    pub async fn eventually(&self, what: &str, limit: Duration, holds: impl AsyncFn() -> bool) {
        let began = Instant::now();
        while !holds().await {
            if began.elapsed() > limit {
                for n in 0..self.size() {
                    let log = self.log(n);
                    let lines: Vec<_> = log.lines().collect();
                    eprintln!("-- {}\n{}", Self::name(n), lines[lines.len().saturating_sub(15)..].join("\n"));
                }
                panic!("not within {limit:?}: {what}");
            }
            pause().await;
        }
    }

    pub async fn status(&self, n: usize) -> MemberStatus {
        self.client(n).status().await.unwrap()
    }

    /// Which member leads, once those who answer agree.
    pub async fn leader(&self) -> usize {
        let began = Instant::now();
        loop {
            for n in 0..self.size() {
                if let Ok(status) = self.client(n).status().await
                    && status.leader == Some(status.member_id)
                {
                    return n;
                }
            }
            assert!(began.elapsed() < Duration::from_secs(10), "no leader");
            pause().await;
        }
    }

    /// The hash of all keys and revisions, the same on every member; with the revision that it is of.
    pub async fn hash(&self) -> (i64, u32) {
        let mut hashes = Vec::new();
        let mut asked_of = None;
        for n in self.present() {
            let client = etcd_client::Client::connect([self.client_url(n)], None).await.unwrap();
            // A linearizable read: the member has applied what any other has.
            let applied = client.kv_client().get("k", None).await.unwrap().header().unwrap().revision();
            // Somebody may be writing.
            let revision = *asked_of.get_or_insert(applied);
            let answer = client.maintenance_client().hash_kv(revision).await.unwrap();
            hashes.push((revision, answer.hash()));
        }
        hashes.dedup();
        assert_eq!(hashes.len(), 1, "members differ: {hashes:?}");
        hashes[0]
    }

    /// A member that does not lead.
    pub async fn follower(&self) -> usize {
        (self.leader().await + 1) % self.size()
    }
}

/// 3.5 writes no storage version.
pub fn storage_is_set(storage: Option<Minor>, minor: Minor) -> bool {
    storage == if minor >= Minor::new(3, 6) { Some(minor) } else { None }
}

pub fn reported(version: &str) -> EtcdVersion {
    EtcdVersion::reported(version).unwrap()
}

/// The time between two looks.
pub async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}
