//! A proxy in front of an S3 server that counts what a registry asks of it: requests by operation, bytes written, bytes
//! that the server was told to copy. Every byte is passed on as it came, `Host` included, so that signatures stay valid.
//!
//! Any request to the control address answers the counts as JSON and sets them back to zero.

use crate::args::{Args, Failure};
use crate::client::{read_chunk_size, read_line};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Default)]
struct Counts {
    operations: BTreeMap<&'static str, u64>,
    /// Object bytes that came in the bodies of PUT requests.
    received: u64,
    /// Object bytes that the server copied from one object into another on request.
    copied: u64,
    /// Copies whose source was never seen, so that `copied` is too small.
    unknown_copies: u64,
    /// What is known of the store: sizes of objects by path, and of the parts of open multipart uploads by upload id.
    sizes: HashMap<String, u64>,
    parts: HashMap<String, HashMap<String, u64>>,
}

type Shared = Arc<Mutex<Counts>>;

pub fn run(args: &Args) -> Result<(), Failure> {
    let counts = Shared::default();
    let control = TcpListener::bind(args.text("control")?)?;
    let asked = Arc::clone(&counts);
    std::thread::spawn(move || {
        for stream in control.incoming().flatten() {
            let _ = report(stream, &asked);
        }
    });
    let upstream: Arc<str> = args.text("to")?.into();
    for client in TcpListener::bind(args.text("listen")?)?.incoming() {
        let (client, upstream, counts) = (client?, Arc::clone(&upstream), Arc::clone(&counts));
        std::thread::spawn(move || {
            if let Err(problem) = forward(client, &upstream, &counts) {
                eprintln!("bench-tools count: {problem}");
            }
        });
    }
    Ok(())
}

fn report(mut stream: TcpStream, counts: &Shared) -> Result<(), Failure> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while !read_line(&mut reader)?.is_empty() {}
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    let operations: Vec<String> = counts.operations.iter().map(|(name, n)| format!("\"{name}\":{n}")).collect();
    let body = format!(
        "{{\"requests\":{},\"operations\":{{{}}},\"received\":{},\"copied\":{},\"unknown_copies\":{}}}",
        counts.operations.values().sum::<u64>(),
        operations.join(","),
        counts.received,
        counts.copied,
        counts.unknown_copies
    );
    counts.operations.clear();
    (counts.received, counts.copied, counts.unknown_copies) = (0, 0, 0);
    drop(counts);
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())?;
    Ok(())
}

/// One message's head: its lines as they came, and what the proxy needs of them.
struct Head {
    lines: Vec<String>,
    length: u64,
    chunked: bool,
}

impl Head {
    /// Reads a head; `None` where the peer closed the connection between two messages.
    fn read(from: &mut impl BufRead) -> Result<Option<Self>, Failure> {
        if from.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut lines = Vec::new();
        loop {
            let line = read_line(from)?;
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let mut head = Self { lines, length: 0, chunked: false };
        head.length = head.get("content-length").map_or(Ok(0), str::parse)?;
        head.chunked = head.get("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        Ok(Some(head))
    }

    fn get(&self, name: &str) -> Option<&str> {
        let named = |line: &&String| line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name));
        self.lines.iter().skip(1).find(named).and_then(|line| line.split_once(':')).map(|(_, value)| value.trim())
    }

    fn write(&self, to: &mut impl Write, without: &str) -> io::Result<()> {
        let mut text = String::new();
        for line in &self.lines {
            if without.is_empty() || !line.to_ascii_lowercase().starts_with(without) {
                text.push_str(line);
                text.push_str("\r\n");
            }
        }
        text.push_str("\r\n");
        to.write_all(text.as_bytes())
    }

    /// Passes the body on; returns its bytes.
    fn copy_body(&self, from: &mut impl BufRead, to: &mut impl Write) -> Result<u64, Failure> {
        if !self.chunked {
            return copy(from, to, self.length);
        }
        let mut total = 0;
        loop {
            let size = read_chunk_size(from)?;
            to.write_all(format!("{size:x}\r\n").as_bytes())?;
            total += copy(from, to, size)?;
            read_line(from)?;
            to.write_all(b"\r\n")?;
            if size == 0 {
                return Ok(total);
            }
        }
    }
}

fn copy(from: &mut impl BufRead, to: &mut impl Write, length: u64) -> Result<u64, Failure> {
    let copied = io::copy(&mut from.take(length), to)?;
    if copied == length { Ok(length) } else { Err(format!("a body ended after {copied} bytes of {length}").into()) }
}

fn forward(client: TcpStream, upstream: &str, counts: &Shared) -> Result<(), Failure> {
    let server = TcpStream::connect(upstream)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut to_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let mut client = BufReader::with_capacity(256 << 10, client);
    let mut server = BufReader::with_capacity(256 << 10, server);
    while let Some(request) = Head::read(&mut client)? {
        let method = request.lines.first().and_then(|line| line.split(' ').next()).unwrap_or_default().to_owned();
        // The proxy itself tells the client to go on: one round trip of the two, and the body follows in any case.
        if request.get("expect").is_some() {
            to_client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        request.write(&mut to_server, "expect:")?;
        let body = request.copy_body(&mut client, &mut to_server)?;
        let answer = loop {
            let head = Head::read(&mut server)?.ok_or("the S3 server closed the connection instead of answering")?;
            if !head.lines[0].contains(" 100 ") {
                break head;
            }
        };
        let status = answer.lines[0].split(' ').nth(1).unwrap_or_default().to_owned();
        // Counted before the answer is passed on, so that who has the answer finds the request in the counts.
        note(&request, &method, status.starts_with('2'), body, counts);
        answer.write(&mut to_client, "")?;
        if method != "HEAD" && status != "204" && status != "304" {
            answer.copy_body(&mut server, &mut to_client)?;
        }
    }
    Ok(())
}

fn note(request: &Head, method: &str, well: bool, body: u64, counts: &Shared) {
    let target = request.lines[0].split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let value = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    let flag = |key: &str| query.split('&').any(|pair| pair == key || pair.strip_prefix(key) == Some("="));
    let source = request.get("x-amz-copy-source");
    let upload = value("uploadId").map(str::to_owned);
    let in_bucket = path.trim_matches('/').contains('/');
    let name = match (method, &upload) {
        ("PUT", Some(_)) if source.is_some() => "UploadPartCopy",
        ("PUT", Some(_)) => "UploadPart",
        ("PUT", None) if source.is_some() => "CopyObject",
        ("PUT", None) => "PutObject",
        ("POST", Some(_)) => "CompleteMultipartUpload",
        ("POST", None) if flag("uploads") => "CreateMultipartUpload",
        ("POST", None) if flag("delete") => "DeleteObjects",
        ("DELETE", Some(_)) => "AbortMultipartUpload",
        ("DELETE", None) => "DeleteObject",
        ("GET", Some(_)) => "ListParts",
        ("GET", None) if flag("uploads") => "ListMultipartUploads",
        ("GET", None) if in_bucket => "GetObject",
        ("GET", None) => "ListObjects",
        ("HEAD", _) if in_bucket => "HeadObject",
        ("HEAD", _) => "HeadBucket",
        _ => "other",
    };
    let mut guard = counts.lock().unwrap_or_else(PoisonError::into_inner);
    let counts = &mut *guard;
    *counts.operations.entry(name).or_default() += 1;
    if !well {
        return;
    }
    let mut size = 0;
    if name.ends_with("Copy") || name == "CopyObject" {
        let ranged = request.get("x-amz-copy-source-range").and_then(range_length);
        let whole =
            source.and_then(|source| counts.sizes.get(&format!("/{}", source.trim_start_matches('/'))).copied());
        match ranged.or(whole) {
            Some(known) => size = known,
            None => counts.unknown_copies += 1,
        }
        counts.copied += size;
    } else if method == "PUT" {
        // A signed stream has signatures between its chunks; this header says what is left without them.
        size = request.get("x-amz-decoded-content-length").and_then(|n| n.parse().ok()).unwrap_or(body);
        counts.received += size;
    }
    match (name, upload) {
        ("UploadPart" | "UploadPartCopy", Some(id)) => {
            counts.parts.entry(id).or_default().insert(value("partNumber").unwrap_or_default().to_owned(), size);
        }
        ("CompleteMultipartUpload", Some(id)) => {
            let parts = counts.parts.remove(&id).unwrap_or_default();
            counts.sizes.insert(path.to_owned(), parts.values().sum());
        }
        ("PutObject" | "CopyObject", None) => {
            counts.sizes.insert(path.to_owned(), size);
        }
        _ => {}
    }
}

/// The bytes of `bytes=<first>-<last>`.
fn range_length(range: &str) -> Option<u64> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    last.parse::<u64>().ok()?.checked_sub(first.parse().ok()?)?.checked_add(1)
}
