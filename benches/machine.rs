//! Where and when was measured.

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, ListParams};
use std::fmt;
use std::fs::read_to_string;

pub struct Machine {
    day: String,
    cores: usize,
    memory_gib: u64,
    /// When the run began.
    load: String,
    nodes: usize,
    kubernetes: String,
}

pub async fn describe(client: &Client) -> anyhow::Result<Machine> {
    let memory = read_to_string("/proc/meminfo")?;
    let kib = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let kib: u64 = kib.and_then(|kib| kib.parse().ok()).context("no MemTotal in /proc/meminfo")?;
    Ok(Machine {
        day: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
        cores: std::thread::available_parallelism()?.get(),
        memory_gib: (kib + (1 << 19)) >> 20,
        load: load()?,
        nodes: Api::<Node>::all(client.clone()).list_metadata(&ListParams::default()).await?.items.len(),
        kubernetes: client.apiserver_version().await?.git_version,
    })
}

/// Of the last minute, over all that runs here: the lab's own included.
pub fn load() -> anyhow::Result<String> {
    let load = read_to_string("/proc/loadavg")?;
    Ok(load.split_whitespace().next().unwrap_or_default().to_owned())
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { day, cores, memory_gib, load, nodes, kubernetes } = self;
        let version = env!("CARGO_PKG_VERSION");
        write!(
            f,
            "{day}, Quorate {version}, Kubernetes {kubernetes} in a lab of {nodes} nodes on one machine of {cores} cores \
             and {memory_gib} GiB, load {load} when the run began"
        )
    }
}
