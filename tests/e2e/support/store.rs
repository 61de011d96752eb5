//! Keys and values of a cluster, over a member's own address.

use super::cluster::Cluster;
use etcd_client::{AlarmAction, AlarmOptions, AlarmType, Client, ConnectOptions, TlsOptions};
use quorate::etcd::MemberId;
use std::time::Duration;

/// A connection to one member.
pub async fn connect(endpoint: &str, tls: Option<&TlsOptions>) -> Client {
    let options = ConnectOptions::new()
        .with_connect_timeout(Duration::from_secs(2))
        .with_timeout(Duration::from_secs(5));
    let options = match tls {
        Some(tls) => options.with_tls(tls.clone()),
        None => options,
    };
    Client::connect([endpoint], Some(options)).await.unwrap()
}

impl Cluster {
    async fn any_member(&self) -> Client {
        let endpoints = self.endpoints().await;
        connect(endpoints.first().expect("a member with an address"), self.tls.as_ref()).await
    }

    /// Stores a value and returns its revision.
    pub async fn put(&self, key: &str, value: &str) -> i64 {
        let mut kv = self.any_member().await.kv_client();
        kv.put(key, value, None).await.unwrap().header().unwrap().revision()
    }

    /// Sets or takes away the alarm that a member raises where its database has reached the quota.
    pub async fn no_space(&self, action: AlarmAction, member: MemberId) {
        let mut of_member = AlarmOptions::new();
        of_member.with_member(member.0);
        let mut maintenance = self.any_member().await.maintenance_client();
        maintenance.alarm(action, AlarmType::Nospace, Some(of_member)).await.unwrap();
    }

    /// Every member has the same keys and revisions, by etcd's own hash of them.
    pub async fn assert_same_data(&self) {
        let mut hashes = Vec::new();
        let mut asked_of = None;
        for endpoint in self.endpoints().await {
            let client = connect(&endpoint, self.tls.as_ref()).await;
            // A linearizable read: the member has applied what any other has.
            let applied = client.kv_client().get("k", None).await.unwrap().header().unwrap().revision();
            let revision = *asked_of.get_or_insert(applied);
            hashes.push(client.maintenance_client().hash_kv(revision).await.unwrap().hash());
        }
        hashes.dedup();
        assert_eq!(hashes.len(), 1, "members differ: {hashes:?}");
    }

    /// The value of a key, read linearizably.
    /// Writes a few keys over and over until that is refused, and says with what words.
    pub async fn fill(&self) -> String {
        let mut kv = self.any_member().await.kv_client();
        for n in 0..10_000 {
            if let Err(refused) = kv.put(format!("over/{}", n % 4), "v".repeat(64 << 10), None).await {
                return refused.to_string();
            }
        }
        panic!("the database is never full");
    }

    pub async fn get_key(&self, key: &str) -> Option<String> {
        let mut kv = self.any_member().await.kv_client();
        let answer = kv.get(key, None).await.unwrap();
        answer.kvs().first().map(|kv| kv.value_str().unwrap().to_owned())
    }
}
