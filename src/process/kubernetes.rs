//! The clients with which the process talks to Kubernetes: time limits, retries, the name it goes by.

use super::telemetry::with_causes;
use axum::http::{HeaderValue, header};
use kube::config::InferConfigError;
use kube::{Client, Config};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than the API server's bookmarks are apart (a minute, with jitter up to 75 s): a watch on which
/// nothing at all is heard for this long is dead, and is begun again where it ended.
const WATCH_SILENCE: Duration = Duration::from_secs(90);
/// A call that is not answered by then is a failed pass; the next one tries again.
const CALL_SILENCE: Duration = Duration::from_secs(15);

/// One client for each kind of traffic. Each has connections of its own, so that a watch's patience does
/// not bind a call, and the lease is not renewed over whatever connection a busy loop left half dead.
#[derive(Clone)]
pub struct Clients {
    /// For watches, and the lists that they begin with.
    pub watch: Client,
    /// For everything else.
    pub call: Client,
    /// For the lease alone.
    pub lease: Client,
}

impl Clients {
    /// From the environment: a kubeconfig if there is one, else the Pod's service account.
    /// Nothing is dialled yet. Needs the rustls provider to be installed.
    pub async fn infer() -> Result<Self, Error> {
        let config = Config::infer().await.map_err(Error::Config)?;
        let client = |silence| Client::try_from(with_habits(config.clone(), silence)).map_err(Error::Client);
        Ok(Self { watch: client(WATCH_SILENCE)?, call: client(CALL_SILENCE)?, lease: client(CALL_SILENCE)? })
    }
}

fn with_habits(mut config: Config, silence: Duration) -> Config {
    // An eviction that the disruption budget forbids is answered with 429. The planner must hear that at
    // once and look at the cluster again; kube would repeat the call for it, seconds later, on facts that
    // no longer hold. For everything else the next pass is the retry.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(silence);
    // Else the time that a pooled connection lay idle would count against the next answer.
    config.reset_reader_on_write = true;
    config
        .headers
        .push((header::USER_AGENT, HeaderValue::from_static(concat!("quorate/", env!("CARGO_PKG_VERSION")))));
    config
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a kubeconfig nor a service account was found.
    #[error("no way to the Kubernetes API: neither a kubeconfig nor a service account was found")]
    Config(#[source] InferConfigError),
    /// What was found cannot be used.
    #[error("the Kubernetes client cannot be made")]
    Client(#[source] kube::Error),
}

/// An error of the Kubernetes API in one line for logs: the server's own words where it answered, the
/// chain of causes where it did not.
pub fn one_line(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} (HTTP {})", status.message, status.code);
    }
    with_causes(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    #[test]
    fn a_refused_eviction_comes_back_at_once_and_nothing_waits_for_ever() {
        let config = with_habits(
            Config::new(axum::http::Uri::from_static("https://kubernetes.invalid")),
            CALL_SILENCE,
        );
        assert!(!config.default_retry);
        assert_eq!(config.read_timeout, Some(CALL_SILENCE));
        assert!(
            config.connect_timeout.is_some()
                && config.write_timeout.is_some()
                && config.reset_reader_on_write
        );
        assert!(config.headers.iter().any(
            |(name, value)| name == header::USER_AGENT && value.to_str().unwrap().starts_with("quorate/")
        ));
    }

    #[test]
    fn an_error_is_told_in_the_servers_words() {
        let error =
            kube::Error::Api(Box::new(Status::failure("pods is forbidden", "Forbidden").with_code(403)));
        assert_eq!(one_line(&error), "pods is forbidden (HTTP 403)");
        let error = kube::Error::Service("connection refused".into());
        assert_eq!(one_line(&error), "ServiceError: connection refused");
    }
}
