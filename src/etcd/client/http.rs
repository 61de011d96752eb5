//! `GET` over a connection of its own: addresses are re-used, and a call says whether the member can be reached now. It
//! tells also with which certificate the server answered.

use super::Credentials;
use super::transport::CONNECT_LIMIT;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Bytes of an answer: `/metrics` is some 200 kB. Addresses are re-used, and anybody may answer.
const LONGEST_BODY: usize = 8 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Nobody took the connection, or it broke while TLS was agreed upon.
    #[error(transparent)]
    Connect(#[from] io::Error),
    /// Nobody took the connection in time.
    #[error("no connection within {} s", CONNECT_LIMIT.as_secs())]
    NoConnection,
    /// The member's name is none that TLS can verify.
    #[error(transparent)]
    Name(#[from] InvalidDnsNameError),
    /// The request cannot be written.
    #[error(transparent)]
    Request(#[from] hyper::http::Error),
    /// The exchange failed.
    #[error(transparent)]
    Exchange(#[from] hyper::Error),
    /// The answer broke off, or is too long to be etcd's.
    #[error("the answer: {0}")]
    Body(#[source] Box<dyn Error + Send + Sync>),
    /// An answer, and not the one that was asked for.
    #[error("the answer is {0}")]
    Status(StatusCode),
}

/// An answer.
pub(super) struct Fetched {
    pub(super) body: Bytes,
    /// The certificate that the server presented, where it did.
    pub(super) certificate: Option<Vec<u8>>,
}

/// Gets `path` at `address`, where `name` is asked for; over TLS with these credentials, where there are any.
pub(super) async fn get(
    address: SocketAddr,
    name: &str,
    path: &str,
    credentials: Option<&Credentials>,
) -> Result<Fetched, HttpError> {
    let request =
        Request::get(path).header(HOST, name).header(CONNECTION, "close").body(Empty::<Bytes>::new())?;
    let Some(credentials) = credentials else {
        let stream = in_time(TcpStream::connect(address)).await?;
        return Ok(Fetched { body: exchange(stream, request).await?, certificate: None });
    };
    let stream = secured(address, name, credentials).await?;
    let certificate = certificate(&stream);
    Ok(Fetched { body: exchange(stream, request).await?, certificate })
}

/// The certificate that is presented at `address`, in DER, whatever becomes of the connection.
pub(super) async fn presented(
    address: SocketAddr,
    name: &str,
    credentials: &Credentials,
) -> Result<Option<Vec<u8>>, HttpError> {
    Ok(certificate(&secured(address, name, credentials).await?))
}

async fn secured(
    address: SocketAddr,
    name: &str,
    credentials: &Credentials,
) -> Result<TlsStream<TcpStream>, HttpError> {
    let connector = TlsConnector::from(credentials.config());
    let name = ServerName::try_from(name.to_owned())?;
    in_time(async { connector.connect(name, TcpStream::connect(address).await?).await }).await
}

fn certificate(stream: &TlsStream<TcpStream>) -> Option<Vec<u8>> {
    let chain = stream.get_ref().1.peer_certificates()?;
    chain.first().map(|certificate| certificate.to_vec())
}

async fn in_time<T>(connects: impl Future<Output = io::Result<T>>) -> Result<T, HttpError> {
    Ok(timeout(CONNECT_LIMIT, connects).await.map_err(|_| HttpError::NoConnection)??)
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Bytes, HttpError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let ask = async move {
        let answer = sender.send_request(request).await?;
        match answer.status() {
            StatusCode::OK => {
                let body = Limited::new(answer.into_body(), LONGEST_BODY).collect().await;
                Ok(body.map_err(HttpError::Body)?.to_bytes())
            }
            status => Err(HttpError::Status(status)),
        }
    };
    // The connection does the work of the exchange, and ends with it; how it ended the exchange tells better.
    let (answer, _) = tokio::join!(ask, connection);
    answer
}
