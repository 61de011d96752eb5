//! The operator's process: reads its arguments, waits for its kind and its lease, runs the controllers,
//! and ends in order. What it does in between is told in the modules of the library.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "the process is I/O")]

use anyhow::Context as _;
use clap::{ArgAction, Parser};
use kube::runtime::events::Reporter;
use quorate::cluster::{context::Context, controller};
use quorate::etcd::Channels;
use quorate::etcd::versions::Releases;
use quorate::process::kubernetes::Clients;
use quorate::process::leadership::act_while_leading;
use quorate::process::lease::{Candidate, Timing};
use quorate::process::{Health, Metrics, Reason, Shutdown, crd, pod, server, telemetry};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Runs etcd clusters on Kubernetes and upgrades them one verified member at a time.
#[derive(Clone, Debug, Parser)]
#[command(version)]
struct Args {
    /// Namespaces to watch, separated by commas. All of them when empty.
    #[arg(long, env = "QUORATE_WATCH_NAMESPACES", value_delimiter = ',')]
    watch_namespaces: Vec<String>,
    /// Whether to act only while holding a Lease. Needed as soon as there may be two replicas.
    #[arg(long, env = "QUORATE_LEADER_ELECT", action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true")]
    leader_elect: bool,
    /// The name of the Lease.
    #[arg(long, env = "QUORATE_LEASE_NAME", default_value = "quorate")]
    lease_name: String,
    /// The namespace of the Lease. The Pod's own when absent.
    #[arg(long, env = "QUORATE_LEASE_NAMESPACE")]
    lease_namespace: Option<String>,
    /// Where /livez, /readyz and /metrics are served. [::] takes IPv4 too.
    #[arg(long, env = "QUORATE_LISTEN", default_value = "[::]:8080")]
    listen: SocketAddr,
    /// The form of log lines. JSON unless stderr is a terminal.
    #[arg(long, env = "QUORATE_LOG_FORMAT", value_enum)]
    log_format: Option<telemetry::LogFormat>,
    /// What to log, in the syntax of tracing-subscriber's `EnvFilter`.
    #[arg(long, env = "RUST_LOG", default_value = telemetry::DEFAULT_FILTER)]
    log: String,
    /// Base URL of the pages that explain codes; messages then link to them.
    #[arg(long, env = "QUORATE_DOCS_URL")]
    docs_url: Option<String>,
    /// The domain of the Kubernetes cluster, which stands in certificates. The one of the Pod's resolv.conf when absent, and
    /// outside a Pod cluster.local.
    #[arg(long, env = "QUORATE_CLUSTER_DOMAIN")]
    cluster_domain: Option<String>,
    /// A JSON file that adds releases of etcd to the built-in table, or marks some as refused or to warn of:
    /// `{"known": ["3.6.17"], "refuse": {"3.6.15": "why"}, "warn": {"3.6.16": "why"}}`. Its verdict on a release
    /// overrules the table's. Read once, at the start.
    #[arg(long, env = "QUORATE_RELEASES", value_name = "FILE")]
    releases: Option<PathBuf>,
}

fn main() -> ExitCode {
    // First thing: whoever makes a TLS configuration before this panics. It fails only if done twice.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut args = Args::parse();
    // An empty value means all of them, and one that is named twice must not be watched twice.
    args.watch_namespaces.retain(|namespace| !namespace.is_empty());
    args.watch_namespaces.sort_unstable();
    args.watch_namespaces.dedup();
    match start(args) {
        Ok(reason) if reason.exit_code() == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            let error = telemetry::with_causes(error.as_ref());
            if tracing::dispatcher::has_been_set() {
                tracing::error!("{error}");
            } else {
                eprintln!("quorate: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

fn start(args: Args) -> anyhow::Result<Reason> {
    telemetry::init(args.log_format, &args.log)?;
    // Two workers, however many cores the node has: the work is waiting for answers, and every worker
    // costs memory (its stack, an arena of the allocator) that a budget of 20 MiB does not have.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .enable_all()
        .build()
        .context("there is no async runtime")?;
    let ended = runtime.block_on(run(args));
    // Not dropped: that would wait for a name look-up in flight.
    runtime.shutdown_background();
    ended
}

async fn run(args: Args) -> anyhow::Result<Reason> {
    let (shutdown, health, metrics) = (Shutdown::new(), Health::default(), Metrics::new());
    shutdown.on_signals().context("cannot listen for signals")?;
    shutdown.enforce().context("cannot start the thread of the exit deadline")?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), namespaces = ?args.watch_namespaces, "starting");

    let releases = releases(args.releases.as_deref())?;
    let listener =
        server::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    tokio::spawn(server::serve(listener, health.clone(), metrics.clone(), shutdown.clone()));

    let clients = Clients::infer().await?;
    tokio::select! {
        reason = shutdown.requested() => return Ok(reason),
        () = crd::wait_for_crd(&clients.call, &args.watch_namespaces, &health) => {}
    }
    let candidate = args.leader_elect.then(|| {
        let namespace = pod::namespace(args.lease_namespace.as_deref());
        Candidate::new(clients.lease.clone(), &namespace, &args.lease_name, pod::identity(), Timing::DEFAULT)
    });
    let reporter = Reporter { controller: "quorate".to_owned(), instance: Some(pod::identity()) };
    let channels = Channels::default();
    let domain = pod::cluster_domain(args.cluster_domain.as_deref());
    let context = Arc::new(Context::new(
        clients.call,
        channels,
        metrics.clone(),
        reporter,
        args.docs_url,
        releases,
        &domain,
    ));
    let end = shutdown.clone();
    let work = async move {
        controller::run(context, &clients.watch, &args.watch_namespaces, &end).await;
    };
    act_while_leading(candidate, &health, &metrics, &shutdown, work).await;
    Ok(shutdown.requested().await)
}

/// The table of releases with what the file says of them.
fn releases(file: Option<&Path>) -> anyhow::Result<Releases> {
    // An empty name is how a chart says that there is none.
    let Some(file) = file.filter(|file| !file.as_os_str().is_empty()) else { return Ok(Releases::default()) };
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the releases in {}", file.display()))?;
    Releases::parse(&text).with_context(|| format!("cannot use the releases in {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_are_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn leader_election_is_a_switch_that_can_be_turned_off() {
        let elects = |args: &[&str]| Args::try_parse_from(args).unwrap().leader_elect;
        assert!(elects(&["quorate"]) && elects(&["quorate", "--leader-elect"]));
        assert!(!elects(&["quorate", "--leader-elect=false"]));
    }

    #[test]
    fn releases_are_read_from_a_file_or_are_those_of_the_table() {
        assert_eq!(releases(None).unwrap(), Releases::default());
        assert_eq!(releases(Some(Path::new(""))).unwrap(), Releases::default());
        let error = format!("{:#}", releases(Some(Path::new("/no/such/file"))).unwrap_err());
        assert!(error.contains("/no/such/file"), "{error}");
    }

    #[test]
    fn namespaces_are_separated_by_commas() {
        let args = Args::try_parse_from(["quorate", "--watch-namespaces", "a,b"]).unwrap();
        assert_eq!(args.watch_namespaces, ["a", "b"]);
    }
}
