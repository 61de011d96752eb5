//! Who leads, asked of every member ten times a second.

use etcd_client::{Client, ConnectOptions};
use futures::future::join_all;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};

const LOOK: Duration = Duration::from_millis(100);
const ANSWER: Duration = Duration::from_millis(500);

pub struct Leaders {
    changes: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl Leaders {
    pub fn start(endpoints: watch::Receiver<Vec<String>>) -> Self {
        let changes = Arc::new(AtomicU32::new(0));
        let task = tokio::spawn(keep_asking(endpoints, Arc::clone(&changes)));
        Self { changes, task }
    }

    /// How often another member came to lead.
    pub fn finish(self) -> u32 {
        self.task.abort();
        self.changes.load(Ordering::SeqCst)
    }
}

async fn keep_asking(endpoints: watch::Receiver<Vec<String>>, changes: Arc<AtomicU32>) {
    let mut clients: BTreeMap<String, Client> = BTreeMap::new();
    let (mut term, mut leader) = (0, 0);
    let mut looks = interval(LOOK);
    loop {
        looks.tick().await;
        let known = endpoints.borrow().clone();
        clients.retain(|endpoint, _| known.contains(endpoint));
        for endpoint in known {
            if let Entry::Vacant(unknown) = clients.entry(endpoint) {
                let options = ConnectOptions::new().with_connect_timeout(ANSWER);
                if let Ok(client) = Client::connect([unknown.key()], Some(options)).await {
                    unknown.insert(client);
                }
            }
        }
        let asked = clients.values().map(|client| {
            let mut client = client.clone();
            async move { timeout(ANSWER, client.status()).await.ok()?.ok() }
        });
        // A member that lags names an old leader: who has the highest term is right.
        let newest = join_all(asked).await.into_iter().flatten().filter(|status| status.leader() != 0);
        if let Some(status) = newest.max_by_key(etcd_client::StatusResponse::raft_term)
            && status.raft_term() >= term
        {
            if leader != 0 && leader != status.leader() {
                changes.fetch_add(1, Ordering::SeqCst);
            }
            (term, leader) = (status.raft_term(), status.leader());
        }
    }
}
