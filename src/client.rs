//! A client of the API: HTTP over its unix socket, for the commands that ask a running agent.
//!
//! Must never: wait without a bound, or read an answer of any length.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HOST;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::time::timeout;

use leafboot_core::printable;

/// The longest answer in bytes. 512 ports with all their fields are less than half a megabyte.
const ANSWER_MAX: usize = 8 * 1024 * 1024;
/// The longest time for an answer, without what the request itself asks to wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no answer. Each text names the socket or the request.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No process serves the socket.
    #[error("{}: {source}: is leafboot running? Ask systemctl status leafboot", .socket.display())]
    NotRunning {
        /// The socket.
        socket: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// The caller may not use the socket.
    #[error("{}: {source}: root and its group may use the socket", .socket.display())]
    NotPermitted {
        /// The socket.
        socket: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// The connection broke.
    #[error("{request}: leafboot at {} has broken off the connection: {reason}", .socket.display())]
    Broken {
        /// Method and path.
        request: String,
        /// The socket.
        socket: PathBuf,
        /// What has happened.
        reason: String,
    },
    /// The answer takes too long.
    #[error("{request}: leafboot at {} has not answered within {wait:?}", .socket.display())]
    Late {
        /// Method and path.
        request: String,
        /// The socket.
        socket: PathBuf,
        /// How long it was waited for.
        wait: Duration,
    },
    /// The answer is longer than a leaf's can be.
    #[error("{request}: the answer of {} is longer than {ANSWER_MAX} bytes", .socket.display())]
    TooLong {
        /// Method and path.
        request: String,
        /// The socket.
        socket: PathBuf,
    },
    /// leafboot has refused the request.
    #[error("{message} ({reason})")]
    Refused {
        /// One of the API's reasons.
        reason: String,
        /// The API's sentence.
        message: String,
    },
    /// The answer is not one of leafboot's.
    #[error("{request}: {} gives no answer of this leafboot's: {reason}", .socket.display())]
    NotUnderstood {
        /// Method and path.
        request: String,
        /// The socket.
        socket: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
}

/// One connection to the API.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    connection: SendRequest<Full<Bytes>>,
}

/// The answer that refuses a request.
#[derive(Deserialize)]
struct Refusal {
    error: RefusalError,
}

#[derive(Deserialize)]
struct RefusalError {
    reason: String,
    message: String,
}

impl Client {
    /// Connects to the API's socket.
    pub async fn connect(socket: &Path) -> Result<Self, ClientError> {
        let socket = socket.to_owned();
        let stream = match timeout(ANSWER_TIMEOUT, UnixStream::connect(&socket)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(source)) if source.kind() == io::ErrorKind::PermissionDenied => {
                return Err(ClientError::NotPermitted { socket, source });
            }
            Ok(Err(source)) => return Err(ClientError::NotRunning { socket, source }),
            Err(_) => {
                let request = "connect".to_owned();
                return Err(ClientError::Late { request, socket, wait: ANSWER_TIMEOUT });
            }
        };
        match http1::handshake(TokioIo::new(stream)).await {
            Ok((connection, driver)) => {
                // What breaks the connection also ends the request that is under way.
                tokio::spawn(async move { drop(driver.await) });
                Ok(Self { socket, connection })
            }
            Err(error) => {
                let (request, reason) = ("connect".to_owned(), error.to_string());
                Err(ClientError::Broken { request, socket, reason })
            }
        }
    }

    /// GET of a path: the answer's body.
    pub async fn get(&mut self, path: &str) -> Result<Bytes, ClientError> {
        self.ask(Method::GET, path, Bytes::new(), Duration::ZERO).await
    }

    /// GET of a path, parsed.
    pub async fn read<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ClientError> {
        let body = self.get(path).await?;
        self.parse(&format!("GET {path}"), &body)
    }

    /// PUT of a document. The agent may take `wait` for its answer, as the query of `path` says.
    pub async fn put<T: DeserializeOwned>(
        &mut self,
        path: &str,
        document: String,
        wait: Duration,
    ) -> Result<T, ClientError> {
        let body = self.ask(Method::PUT, path, document.into(), wait).await?;
        self.parse(&format!("PUT {path}"), &body)
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        wait: Duration,
    ) -> Result<Bytes, ClientError> {
        let (request, socket) = (format!("{method} {path}"), self.socket.clone());
        let wait = wait + ANSWER_TIMEOUT;
        let asking = self.exchange(method, path, body);
        let (is_good, body) = match timeout(wait, asking).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                return Err(ClientError::TooLong { request, socket });
            }
            Ok(Err(error)) => {
                return Err(ClientError::Broken { request, socket, reason: error.to_string() });
            }
            Err(_) => return Err(ClientError::Late { request, socket, wait }),
        };
        match is_good {
            true => Ok(body),
            false => {
                let Refusal { error } = self.parse(&request, &body)?;
                let RefusalError { reason, message } = error;
                let reason = printable::line(&reason);
                Err(ClientError::Refused { reason, message: printable::line(&message) })
            }
        }
    }

    /// Whether the status is one of success, and the body.
    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(bool, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let request =
            Request::builder().method(method).uri(path).header(HOST, "leafboot").body(Full::new(body))?;
        self.connection.ready().await?;
        let answer = self.connection.send_request(request).await?;
        let is_good = answer.status().is_success();
        Ok((is_good, Limited::new(answer.into_body(), ANSWER_MAX).collect().await?.to_bytes()))
    }

    /// Parses the body of an answer to `request`, such as `GET /v1/leaf`.
    pub fn parse<T: DeserializeOwned>(&self, request: &str, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| ClientError::NotUnderstood {
            request: request.to_owned(),
            socket: self.socket.clone(),
            reason: error.to_string(),
        })
    }
}

/// The path of a port, by any name that the API knows: everything but unreserved characters is percent-encoded (RFC 3986
/// 2.3).
pub fn port_path(name: &str) -> String {
    let mut path = "/v1/ports/".to_owned();
    for byte in name.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => path.push(char::from(byte)),
            false => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;

    /// Answers one request with these bytes, and keeps the connection open.
    async fn ask(answer: Vec<u8>) -> Result<serde_json::Value, ClientError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(&answer).await;
            std::future::pending::<()>().await;
        });
        Client::connect(&path).await?.read("/v1/ports").await
    }

    fn answer(status: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    #[tokio::test]
    async fn an_answer_is_parsed_and_a_refusal_is_an_error() {
        assert_eq!(ask(answer("200 OK", "{\"a\": 1}")).await.unwrap()["a"], 1);
        let refusal = r#"{"error": {"reason": "UnknownPort", "message": "\u001b[31mno"}}"#;
        let error = ask(answer("404 Not Found", refusal)).await.unwrap_err();
        assert_eq!(error.to_string(), "\\u{1b}[31mno (UnknownPort)");
        let error = ask(answer("200 OK", "<html>")).await.unwrap_err().to_string();
        assert!(error.starts_with("GET /v1/ports: ") && error.contains("/socket gives no answer"), "{error}");
        let error = ask(b"SSH-2.0\r\n".to_vec()).await.unwrap_err().to_string();
        assert!(error.contains("has broken off the connection"), "{error}");
    }

    #[tokio::test]
    async fn an_endless_answer_and_one_that_never_comes_are_given_up() {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 64 << 20);
        let endless = [head.into_bytes(), vec![b' '; 9 << 20]].concat();
        let error = ask(endless).await.unwrap_err().to_string();
        assert!(error.contains("is longer than 8388608 bytes"), "{error}");
        tokio::time::pause();
        let begun = Instant::now();
        let error = ask(Vec::new()).await.unwrap_err().to_string();
        assert!(error.contains("has not answered within 10s"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(5), "time is invented");
    }

    #[tokio::test]
    async fn a_socket_without_an_agent_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let error = Client::connect(&path).await.unwrap_err().to_string();
        assert!(error.contains("/socket: No such file") && error.contains("is leafboot running?"), "{error}");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let error = Client::connect(&path).await.unwrap_err().to_string();
        assert!(error.contains("Connection refused"), "{error}");
    }

    #[test]
    fn a_ports_name_goes_into_one_segment() {
        assert_eq!(port_path("Eth1/2"), "/v1/ports/Eth1%2F2");
        assert_eq!(port_path("é ?"), "/v1/ports/%C3%A9%20%3F");
    }
}
