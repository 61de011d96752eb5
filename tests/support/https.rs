//! `GET` over TLS or without, as anybody may try it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// `GET /version` of a port, under a name, of whoever an authority vouches for; with a certificate and its key where one is
/// shown.
///
/// # Errors
/// Why there was no answer.
pub async fn get(
    scheme: &str,
    (ip, port): (IpAddr, u16),
    name: &str,
    authority: &str,
    shown: Option<(&str, &str)>,
) -> Result<String, String> {
    let authority =
        reqwest::Certificate::from_pem(authority.as_bytes()).map_err(|error| error.to_string())?;
    let mut client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([authority])
        .resolve(name, SocketAddr::new(ip, port))
        .timeout(Duration::from_secs(5));
    if let Some((certificate, key)) = shown {
        let pem = format!("{certificate}\n{key}");
        client =
            client.identity(reqwest::Identity::from_pem(pem.as_bytes()).map_err(|error| error.to_string())?);
    }
    let client = client.build().map_err(|error| error.to_string())?;
    // With all its causes.
    let answer = client.get(format!("{scheme}://{name}:{port}/version")).send().await;
    let answer = answer.map_err(|error| format!("{error:?}"))?.error_for_status();
    answer.map_err(|error| error.to_string())?.text().await.map_err(|error| error.to_string())
}
