//! The channels to members: one for each Pod, kept between observations and dropped with the Pod.

use super::{Credentials, MemberClient, transport};
use crate::etcd::answers::KvHash;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Where one member's Pod answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The Pod's UID. A channel belongs to one Pod: addresses are re-used.
    pub pod_uid: String,
    /// The Pod's address.
    pub ip: IpAddr,
    /// The member's DNS name: what HTTP asks for, and what TLS verifies. It is not looked up.
    pub server_name: String,
}

/// Between two looks at what a member shows to its peers: it turns whoever looks away, and writes so into its log.
const ASKED_EVERY: Duration = Duration::from_secs(10);

type LinksByPod = HashMap<String, Arc<Link>>;

/// The channels to all members of all clusters. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Channels {
    /// By scope: one for each cluster.
    links: Arc<Mutex<HashMap<String, LinksByPod>>>,
    /// By scope too: with what its members are spoken to over TLS.
    credentials: Arc<Mutex<HashMap<String, Arc<Credentials>>>>,
}

impl Channels {
    /// The client for the member at `endpoint`. It dials on its first call, so a member that cannot be reached is an
    /// error of the call. `scope` is the cluster, e.g. its UID: see [`Channels::keep_only`].
    pub fn member(&self, scope: &str, endpoint: &Endpoint) -> MemberClient {
        let credentials = locked(&self.credentials).get(scope).cloned();
        let mut links = locked(&self.links);
        let of_scope = links.entry(scope.to_owned()).or_default();
        let link = match of_scope.get(&endpoint.pod_uid) {
            // A Pod whose sandbox was made anew, as after a restart of its node, has another address; and what the operator
            // identifies itself with is renewed now and then.
            Some(link) if link.endpoint == *endpoint && link.credentials == credentials => link.clone(),
            _ => {
                let (slot, hash, peer_certificate) = Default::default();
                let link =
                    Arc::new(Link { endpoint: endpoint.clone(), credentials, slot, hash, peer_certificate });
                of_scope.insert(endpoint.pod_uid.clone(), link.clone());
                link
            }
        };
        MemberClient { link }
    }

    /// With what the members of this scope are spoken to from now on; nothing where they talk plaintext. Calls under way end
    /// as they began.
    pub fn show(&self, scope: &str, credentials: Option<Arc<Credentials>>) {
        let mut of_scopes = locked(&self.credentials);
        match credentials {
            Some(credentials) => of_scopes.insert(scope.to_owned(), credentials),
            None => of_scopes.remove(scope),
        };
    }

    /// Forgets a scope: its channels, and with what its members were spoken to.
    pub fn forget(&self, scope: &str) {
        locked(&self.links).remove(scope);
        locked(&self.credentials).remove(scope);
    }

    /// Drops the channels of this scope's Pods that are gone; all of them when `live_pod_uids` is empty.
    /// Calls under way end on the channel that they have.
    pub fn keep_only(&self, scope: &str, live_pod_uids: &[&str]) {
        let mut links = locked(&self.links);
        let Some(of_scope) = links.get_mut(scope) else { return };
        of_scope.retain(|uid, _| live_pod_uids.contains(&uid.as_str()));
        if of_scope.is_empty() {
            links.remove(scope);
        }
    }
}

/// The channel to one Pod, dialled when it is needed.
///
/// A channel of tonic reconnects by itself, at the next call and without backing off, when its connection was
/// closed: so a container that restarts in its Pod is reached again by the first call after its port is open
/// (tonic's `Reconnect`). What it does not notice is a connection that died silently, or an attempt to connect that
/// was given up by its caller: that attempt's failure answers the *next* call. Hence
/// [`Link::hang_up`] after a failure that may be the channel's.
#[derive(Debug)]
pub(super) struct Link {
    endpoint: Endpoint,
    credentials: Option<Arc<Credentials>>,
    slot: Mutex<Slot>,
    /// The last hash of its keys, with the revision and the run of the container that it is of.
    hash: Mutex<Option<(i64, i32, KvHash)>>,
    /// The certificate that it showed on the port for peers.
    peer_certificate: Mutex<Option<(Instant, Vec<u8>)>>,
}

#[derive(Default)]
struct Slot {
    dialled: u64,
    client: Option<Arc<etcd_client::Client>>,
}

impl Link {
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_deref()
    }

    /// What is known of the hash of its keys.
    pub(super) fn hash_of(&self, revision: i64, run: i32) -> Option<KvHash> {
        locked(&self.hash).filter(|(at, of, _)| (*at, *of) == (revision, run)).map(|(_, _, hash)| hash)
    }

    pub(super) fn keep_hash(&self, revision: i64, run: i32, hash: KvHash) {
        *locked(&self.hash) = Some((revision, run, hash));
    }

    /// What it showed to peers when it was asked last: where that `is_enough`, or was a moment ago.
    pub(super) fn peer_certificate(&self, is_enough: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let known = locked(&self.peer_certificate);
        let (at, der) = known.as_ref()?;
        (is_enough(der) || at.elapsed() < ASKED_EVERY).then(|| der.clone())
    }

    #[allow(clippy::disallowed_methods, reason = "when to ask again is no fact about the member")]
    pub(super) fn keep_peer_certificate(&self, der: Vec<u8>) {
        *locked(&self.peer_certificate) = Some((Instant::now(), der));
    }

    /// The channel and its number, a new one if there is none.
    pub(super) async fn channel(&self) -> Result<(u64, Arc<etcd_client::Client>), etcd_client::Error> {
        {
            let slot = locked(&self.slot);
            if let Some(client) = &slot.client {
                return Ok((slot.dialled, client.clone()));
            }
        }
        // Boxed: etcd-client's Client and its futures are several kB, and an observation makes many calls at once.
        let client = Arc::new(Box::pin(transport::channel(&self.endpoint, self.credentials())).await?);
        let mut slot = locked(&self.slot);
        slot.dialled += 1;
        slot.client = Some(client.clone());
        Ok((slot.dialled, client))
    }

    /// Drops the channel of that number; a newer one stays.
    pub(super) fn hang_up(&self, dialled: u64) {
        let mut slot = locked(&self.slot);
        if slot.dialled == dialled {
            slot.client = None;
        }
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("dialled", &self.dialled).finish_non_exhaustive()
    }
}

/// A map that another thread left while panicking is still a map of channels.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
