//! A small HTTP/1.1 client that shows everything and can misbehave: one connection per request unless a test holds one itself.

use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::ClientConfig;
use serde_json::Value;

use super::stream::Stream;

/// The silence of a server that is a failure: far above the needs of a loaded machine.
const SILENCE: Duration = Duration::from_mins(1);

/// The codes that an error may have (distribution specification, "Error Codes"; the last is of its section on legacy Docker codes).
const CODES: [&str; 15] = [
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
    "TAG_INVALID",
];

/// A request, put together by the test.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: &'static str,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    chunked: bool,
}

impl Request {
    fn new(method: &'static str, target: impl Into<String>) -> Self {
        Self { method, target: target.into(), headers: Vec::new(), body: None, chunked: false }
    }

    pub(crate) fn get(target: impl Into<String>) -> Self {
        Self::new("GET", target)
    }

    pub(crate) fn head(target: impl Into<String>) -> Self {
        Self::new("HEAD", target)
    }

    pub(crate) fn post(target: impl Into<String>) -> Self {
        Self::new("POST", target).body(Vec::new())
    }

    pub(crate) fn put(target: impl Into<String>) -> Self {
        Self::new("PUT", target).body(Vec::new())
    }

    pub(crate) fn patch(target: impl Into<String>) -> Self {
        Self::new("PATCH", target).body(Vec::new())
    }

    pub(crate) fn delete(target: impl Into<String>) -> Self {
        Self::new("DELETE", target)
    }

    /// Adds a header line; a header that is given twice is sent twice.
    pub(crate) fn header(mut self, name: &str, value: impl Display) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// Adds a body, sent with its `Content-Length` unless the test states one itself.
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sends the body in the chunked transfer coding, without a `Content-Length`.
    pub(crate) fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// Returns the request line and the header, to the empty line.
    fn head_bytes(&self, host: &str, authorization: Option<&str>) -> Vec<u8> {
        let mut head = vec![format!("{} {} HTTP/1.1", self.method, self.target), format!("host: {host}")];
        let said = |name: &str| self.headers.iter().any(|(said, _)| said.eq_ignore_ascii_case(name));
        head.extend(self.headers.iter().map(|(name, value)| format!("{name}: {value}")));
        if let Some(authorization) = authorization.filter(|_| !said("authorization")) {
            head.push(format!("authorization: {authorization}"));
        }
        if self.chunked {
            head.push("transfer-encoding: chunked".to_owned());
        } else if let Some(body) = &self.body
            && !said("content-length")
        {
            head.push(format!("content-length: {}", body.len()));
        }
        (head.join("\r\n") + "\r\n\r\n").into_bytes()
    }
}

/// An answer of the server, with its request.
#[derive(Clone)]
pub(crate) struct Response {
    request: String,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(2000)]);
        write!(f, "{}\n-> {} {:?}\n{body}", self.request, self.status, self.headers)
    }
}

impl Response {
    /// This response, or a failure that shows it where the status is another, or where it is a refusal in a code that clients do not know.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "\n{self:?}");
        if (400..500).contains(&status) && !self.body.is_empty() {
            let errors = self.json()["errors"].as_array().cloned().unwrap_or_default();
            let known = |error: &Value| error["code"].as_str().is_some_and(|code| CODES.contains(&code));
            assert!(
                !errors.is_empty() && errors.iter().all(known),
                "each error has a code of the specification's\n{self:?}"
            );
        }
        self
    }

    /// Returns the value of a header that is there once, as text.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} is there more than once:\n{self:?}");
        Some(value.to_str().unwrap_or_else(|_| panic!("{name} is not text:\n{self:?}")))
    }

    /// Returns the value of a header that must be there.
    #[track_caller]
    pub(crate) fn required(&self, name: &str) -> &str {
        self.header(name).unwrap_or_else(|| panic!("no {name} in\n{self:?}"))
    }

    /// Returns the path and query of `Location`, whether it is absolute or not.
    #[track_caller]
    pub(crate) fn location(&self) -> String {
        let location = self.required("location");
        match location.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]).to_owned(),
            None => location.to_owned(),
        }
    }

    /// Returns the body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("the body is not JSON: {error}\n{self:?}"))
    }

    /// Fails unless this is an OCI error with `status` whose first code is `code`; returns its `errors`.
    #[track_caller]
    pub(crate) fn expect_error(self, status: u16, code: &str) -> Vec<Value> {
        let response = self.expect(status);
        let errors = response.json()["errors"].as_array().cloned().unwrap_or_default();
        assert_eq!(errors.first().and_then(|error| error["code"].as_str()), Some(code), "\n{response:?}");
        let message = errors[0]["message"].as_str().unwrap_or_default();
        assert!(!message.is_empty(), "an error says what to do next, this one has no message:\n{response:?}");
        errors
    }
}

/// Sends requests to one address.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    address: String,
    tls: Option<Arc<ClientConfig>>,
    /// Sent with every request that has none of its own.
    authorization: Option<String>,
}

impl Client {
    /// `address` is `host:port`.
    pub(crate) fn new(address: impl Into<String>) -> Self {
        Self { address: address.into(), tls: None, authorization: None }
    }

    /// Returns the same client over TLS.
    pub(crate) fn with_tls(self, tls: Arc<ClientConfig>) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Returns the same client with a password.
    pub(crate) fn with_password(self, username: &str, password: &str) -> Self {
        let credentials = BASE64.encode(format!("{username}:{password}"));
        Self { authorization: Some(format!("Basic {credentials}")), ..self }
    }

    /// Returns the same client with a token.
    pub(crate) fn with_token(self, token: &str) -> Self {
        Self { authorization: Some(format!("Bearer {token}")), ..self }
    }

    /// Sends `request` on a connection of its own and reads the whole answer. A failure to get one is a test's failure.
    #[track_caller]
    pub(crate) fn send(&self, request: Request) -> Response {
        let shown = format!("{} {}", request.method, request.target);
        self.try_send(request).unwrap_or_else(|error| panic!("{shown}: no whole answer: {error}"))
    }

    /// Sends `request` where the server may be gone, or the answer cut.
    pub(crate) fn try_send(&self, request: Request) -> io::Result<Response> {
        let mut connection = self.connect()?;
        let request = request.header("connection", "close");
        // what the server answers before it has read all is an answer too, so that a failed write is no failure yet
        let written = connection.write_request(&request);
        connection.read_response(&request).map_err(|error| written.err().unwrap_or(error))
    }

    /// Opens a connection for a test to use as it likes.
    pub(crate) fn connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        stream.set_nodelay(true)?;
        let stream = match &self.tls {
            None => Stream::Plain(stream),
            Some(tls) => Stream::secure(tls, &self.address, stream)?,
        };
        let (host, authorization) = (self.address.clone(), self.authorization.clone());
        Ok(Connection { host, authorization, stream: BufReader::new(stream) })
    }
}

/// One connection, written and read by hand.
pub(crate) struct Connection {
    host: String,
    authorization: Option<String>,
    stream: BufReader<Stream>,
}

impl Connection {
    /// Writes the request's line and header alone.
    pub(crate) fn write_head(&mut self, request: &Request) -> io::Result<()> {
        let head = request.head_bytes(&self.host, self.authorization.as_deref());
        self.write(&head)
    }

    /// Writes bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)?;
        self.stream.get_mut().flush()
    }

    /// Writes the whole request.
    pub(crate) fn write_request(&mut self, request: &Request) -> io::Result<()> {
        self.write_head(request)?;
        let body = request.body.as_deref().unwrap_or_default();
        if !request.chunked {
            return self.write(body);
        }
        for chunk in body.chunks(8 * 1024) {
            self.write(format!("{:x}\r\n", chunk.len()).as_bytes())?;
            self.write(chunk)?;
            self.write(b"\r\n")?;
        }
        self.write(b"0\r\n\r\n")
    }

    /// Closes the connection for writing; the answer can still be read.
    pub(crate) fn finish_writing(&mut self) -> io::Result<()> {
        self.stream.get_mut().finish_writing()
    }

    /// Reads one answer to `request`, past `100 Continue`; a body that ends early is an error.
    pub(crate) fn read_response(&mut self, request: &Request) -> io::Result<Response> {
        let (status, headers) = loop {
            let (status, headers) = self.read_head()?;
            if status >= 200 {
                break (status, headers);
            }
        };
        let body = self.read_body(request.method == "HEAD" || status == 204 || status == 304, &headers)?;
        Ok(Response { request: format!("{} {}", request.method, request.target), status, headers, body })
    }

    fn read_head(&mut self) -> io::Result<(u16, HeaderMap)> {
        let line = self.read_line()?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| invalid(format!("not a status line: {line:?}")))?;
        let mut headers = HeaderMap::new();
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                return Ok((status, headers));
            }
            let (name, value) = line.split_once(':').ok_or_else(|| invalid(format!("not a header: {line:?}")))?;
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| invalid(error.to_string()))?;
            let value = HeaderValue::from_str(value.trim()).map_err(|error| invalid(error.to_string()))?;
            headers.append(name, value);
        }
    }

    fn read_body(&mut self, none: bool, headers: &HeaderMap) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        let length = headers
            .get("content-length")
            .and_then(|length| length.to_str().ok())
            .and_then(|length| length.parse::<u64>().ok());
        if none {
            return Ok(body);
        }
        if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            loop {
                let line = self.read_line()?;
                let size =
                    usize::from_str_radix(&line, 16).map_err(|_| invalid(format!("not a chunk's size: {line:?}")))?;
                let start = body.len();
                body.resize(start + size, 0);
                self.stream.read_exact(&mut body[start..])?;
                self.read_line()?;
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        let read = (&mut self.stream).take(length.unwrap_or(u64::MAX)).read_to_end(&mut body)? as u64;
        if length.is_some_and(|length| length != read) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{read} bytes of {length:?} came")));
        }
        Ok(body)
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 || !line.ends_with("\r\n") {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.truncate(line.len() - 2);
        Ok(line)
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
