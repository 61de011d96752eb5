//! Objects of one kind, kept current by a watch: what happens is seen when it happens, and looking costs the
//! API server nothing.

use futures::StreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub struct Live<K> {
    objects: watch::Receiver<Vec<K>>,
    task: JoinHandle<()>,
}

impl<K> Live<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    pub fn watch(api: Api<K>, labels: &str) -> Self {
        let (sender, objects) = watch::channel(Vec::new());
        let config = watcher::Config::default().labels(labels);
        let task = tokio::spawn(async move {
            let mut known = BTreeMap::new();
            let mut events = std::pin::pin!(kube::runtime::watcher(api, config));
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Init) => known.clear(),
                    Ok(Event::InitApply(object)) => drop(known.insert(object.name_any(), object)),
                    Ok(Event::Apply(object)) => {
                        known.insert(object.name_any(), object);
                        sender.send_replace(known.values().cloned().collect());
                    }
                    Ok(Event::Delete(object)) => {
                        known.remove(&object.name_any());
                        sender.send_replace(known.values().cloned().collect());
                    }
                    Ok(Event::InitDone) => drop(sender.send_replace(known.values().cloned().collect())),
                    // The watcher begins anew by itself.
                    Err(_) => {}
                }
            }
        });
        Self { objects, task }
    }

    /// What there is now.
    pub fn now(&mut self) -> Vec<K> {
        self.objects.borrow_and_update().clone()
    }

    /// Waits for the next change.
    pub async fn changed(&mut self) {
        // The sender lives as long as the task, and that as long as this.
        let _ = self.objects.changed().await;
    }
}

impl<K> Drop for Live<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
