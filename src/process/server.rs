//! The one port of the process: `/livez`, `/readyz` and `/metrics`.
//!
//! Liveness and readiness differ on purpose: what a restart does not mend (a kind that is not installed,
//! an API server that does not answer) makes the process not ready, never not alive.

use super::{Metrics, Reason, Shutdown};
use axum::Router;
use axum::extract;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;

/// How far the process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is known yet.
    Starting,
    /// It cannot begin, and this is what it waits for.
    Waiting(String),
    /// Another replica leads; this one takes over when that one goes.
    StandingBy,
    /// This replica acts.
    Leading,
}

impl State {
    /// A replica that stands by is ready: it does what it is there for, and a Deployment that is rolled
    /// out must not wait for it to lead.
    pub const fn is_ready(&self) -> bool {
        matches!(self, Self::StandingBy | Self::Leading)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Waiting(what) => f.write_str(what),
            Self::StandingBy => f.write_str("standing by"),
            Self::Leading => f.write_str("leading"),
        }
    }
}

/// The state, shared by those who change it and the server that tells it.
#[derive(Clone, Debug)]
pub struct Health(Arc<Mutex<State>>);

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State::Starting)))
    }
}

impl Health {
    /// From now on the process is in `state`.
    pub fn set(&self, state: State) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// The state now.
    pub fn get(&self) -> State {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Opens the port. The default `[::]` takes IPv4 and IPv6; on a node without IPv6 it falls back to IPv4.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() => {
            let fallback = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            // The first error says more when both fail.
            TcpListener::bind(fallback).await.map_err(|_| error)
        }
        bound => bound,
    }
}

#[derive(Clone)]
struct Told {
    health: Health,
    metrics: Metrics,
    shutdown: Shutdown,
}

/// Serves until the process ends: probes are answered also while it shuts down.
pub async fn serve(listener: TcpListener, health: Health, metrics: Metrics, shutdown: Shutdown) {
    let router = router(Told { health, metrics, shutdown: shutdown.clone() });
    if let Err(error) = axum::serve(listener, router).await {
        shutdown.request(Reason::Failed(format!("the health and metrics server failed: {error}")));
    }
}

fn router(told: Told) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(told)
}

async fn readyz(extract::State(told): extract::State<Told>) -> (StatusCode, String) {
    if let Some(reason) = told.shutdown.reason() {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("shutting down: {reason}\n"));
    }
    let state = told.health.get();
    let code = if state.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, format!("{state}\n"))
}

async fn metrics(extract::State(told): extract::State<Told>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match told.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn probes_and_metrics_are_answered() {
        let (health, metrics, shutdown) = (Health::default(), Metrics::new(), Shutdown::new());
        let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, health.clone(), metrics, shutdown.clone()));

        let ready = async |code: &str, text: &str| {
            let answer = get(address, "/readyz").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")) && answer.contains(text), "{answer}");
        };
        ready("503", "starting").await;
        health.set(State::Waiting("waiting for the CRD".into()));
        ready("503", "waiting for the CRD").await;
        assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200 "), "alive all the while");
        health.set(State::StandingBy);
        ready("200", "standing by").await;
        health.set(State::Leading);
        ready("200", "leading").await;

        let scrape = get(address, "/metrics").await;
        assert!(
            scrape.contains("application/openmetrics-text") && scrape.contains("quorate_leader 0"),
            "{scrape}"
        );
        assert!(scrape.trim_end().ends_with("# EOF"));

        shutdown.request(Reason::Signal("SIGTERM"));
        ready("503", "shutting down: SIGTERM").await;
        assert!(get(address, "/nothing").await.starts_with("HTTP/1.1 404 "));
    }

    #[tokio::test]
    async fn the_default_address_also_takes_ipv4() {
        let listener = bind(SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0))).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    }
}
