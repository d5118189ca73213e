//! A small blocking HTTP/1.1 client over one kept connection.

use crate::args::Failure;
use crate::stream::Stream;
use rustls::ClientConfig;
use std::io::{BufRead, Read, Write};
use std::sync::Arc;

pub struct Connection {
    addr: String,
    tls: Option<Arc<ClientConfig>>,
    stream: Option<Stream>,
}

/// An answer with its body read, where it was asked to be kept.
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub length: u64,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// This answer if it has the status that is expected, else an error with what the server said.
    pub fn expect(self, what: &str, statuses: &[u16]) -> Result<Self, Failure> {
        if statuses.contains(&self.status) {
            return Ok(self);
        }
        Err(format!("{what}: status {}: {}", self.status, String::from_utf8_lossy(&self.body)).into())
    }
}

impl Connection {
    pub fn new(addr: &str) -> Self {
        Self::over(addr, None)
    }

    /// A connection over TLS where there is a configuration for it.
    pub fn over(addr: &str, tls: Option<Arc<ClientConfig>>) -> Self {
        Self { addr: addr.to_owned(), tls, stream: None }
    }

    /// Sends a request without a body or with a small one, and keeps the answer's.
    pub fn send(&mut self, method: &str, target: &str, headers: &str, body: &[u8]) -> Result<Answer, Failure> {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\n{headers}Content-Length: {}\r\n\r\n",
            self.addr,
            body.len()
        );
        let all = [head.as_bytes(), body].concat();
        self.exchange(method, &mut |stream| stream.write_all(&all), true)
    }

    /// Sends a request whose body `write` makes (the headers must say its length or that it is chunked).
    pub fn upload(
        &mut self,
        method: &str,
        target: &str,
        headers: &str,
        write: &mut dyn FnMut(&mut Stream) -> std::io::Result<()>,
    ) -> Result<Answer, Failure> {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", self.addr);
        let mut both = |stream: &mut Stream| {
            stream.write_all(head.as_bytes())?;
            write(stream)
        };
        self.exchange(method, &mut both, true)
    }

    /// Gets a target and throws its body away; `length` of the answer says how much came.
    pub fn drain(&mut self, target: &str) -> Result<Answer, Failure> {
        let head = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", self.addr);
        self.exchange("GET", &mut |stream| stream.write_all(head.as_bytes()), false)
    }

    fn exchange(
        &mut self,
        method: &str,
        write: &mut dyn FnMut(&mut Stream) -> std::io::Result<()>,
        keep: bool,
    ) -> Result<Answer, Failure> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => Stream::connect(&self.addr, self.tls.as_ref())?,
        };
        write(&mut stream).map_err(|e| format!("{method}: sending: {e}"))?;
        let mut answer = read_head(&mut stream)?;
        while answer.status == 100 {
            answer = read_head(&mut stream)?;
        }
        let bodiless = method == "HEAD" || answer.status == 204 || answer.status == 304;
        if !bodiless {
            read_body(&mut stream, &mut answer, keep)?;
        }
        if !answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            self.stream = Some(stream);
        }
        Ok(answer)
    }
}

fn read_body(stream: &mut Stream, answer: &mut Answer, keep: bool) -> Result<(), Failure> {
    if answer.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        loop {
            let size = read_chunk_size(stream)?;
            read_exactly(stream, size, answer, keep)?;
            read_line(stream)?;
            if size == 0 {
                return Ok(());
            }
        }
    }
    let length = answer.header("content-length").ok_or("an answer without a length")?.parse()?;
    read_exactly(stream, length, answer, keep)
}

fn read_exactly(stream: &mut Stream, length: u64, answer: &mut Answer, keep: bool) -> Result<(), Failure> {
    let mut left = length;
    while left > 0 {
        let got = if keep {
            std::io::copy(&mut Read::by_ref(stream).take(left), &mut answer.body)?
        } else {
            stream.skip(left)? as u64
        };
        if got == 0 {
            return Err(format!("the connection ended {left} bytes before the end of a body of {length}").into());
        }
        left -= got;
    }
    answer.length += length;
    Ok(())
}

/// Reads one line without its end; at the end of the stream, an error.
pub fn read_line(stream: &mut impl BufRead) -> Result<String, Failure> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err("the connection ended where a line was expected".into());
    }
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line)
}

/// Reads the size line of one chunk of a chunked body (RFC 9112, section 7.1), extensions ignored.
pub fn read_chunk_size(stream: &mut impl BufRead) -> Result<u64, Failure> {
    let line = read_line(stream)?;
    let digits = line.split(';').next().unwrap_or_default().trim();
    u64::from_str_radix(digits, 16).map_err(|_| format!("{line:?} is not the size of a chunk").into())
}

fn read_head(stream: &mut impl BufRead) -> Result<Answer, Failure> {
    let line = read_line(stream)?;
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| format!("{line:?} is not a status line"))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream)?;
        if line.is_empty() {
            return Ok(Answer { status, headers, body: Vec::new(), length: 0 });
        }
        if let Some((key, value)) = line.split_once(':') {
            headers.push((key.to_owned(), value.trim().to_owned()));
        }
    }
}

/// The path and query of a `Location`, absolute or relative to the server.
pub fn location(answer: &Answer) -> Result<String, Failure> {
    let value = answer.header("location").ok_or("an upload answer without Location")?;
    let path = match value.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => value,
    };
    Ok(path.to_owned())
}

/// `location` with the digest that closes the upload.
pub fn with_digest(location: &str, digest: &str) -> String {
    let separator = if location.contains('?') { '&' } else { '?' };
    format!("{location}{separator}digest={digest}")
}
