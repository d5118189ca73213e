//! Requests per second with latencies, for what wrk cannot do: `HEAD` (it waits for the body that never comes), slow answers
//! that must be counted to their end, client certificates, and a new connection for each request.

use crate::args::{Args, Failure, quantile};
use crate::tls;
use rustls::{ClientConfig, HandshakeKind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// No single answer may take longer.
const SILENCE: Duration = Duration::from_secs(120);

/// When a connection ends.
#[derive(Clone, Copy, PartialEq)]
enum Reconnect {
    /// Never.
    No,
    /// After each request, and the next shakes hands in full.
    Full,
    /// After each request, and the next resumes its session: one that does not is an error, but for the first.
    Resumed,
}

/// What every connection does.
struct Plan {
    addr: String,
    tls: Option<Arc<ClientConfig>>,
    reconnect: Reconnect,
    request: Vec<u8>,
    head_only: bool,
    least: u64,
    until: Instant,
    pause: Duration,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let addr = args.text("addr")?.to_owned();
    let method = args.text("method").unwrap_or("GET");
    let extra: String = args.all("header").map(|header| format!("{header}\r\n")).collect();
    let request = format!("{method} {} HTTP/1.1\r\nHost: {addr}\r\n{extra}\r\n", args.text("path")?);
    let connections: u64 = args.number("connections", 1)?;
    let reconnect = match args.text("reconnect") {
        Err(_) => Reconnect::No,
        Ok("full") => Reconnect::Full,
        Ok("resumed") => Reconnect::Resumed,
        Ok(other) => return Err(format!("--reconnect {other:?} is neither full nor resumed").into()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let tls = tls::config(args, reconnect == Reconnect::Resumed)?;
    let started = Instant::now();
    let plan = Arc::new(Plan {
        addr,
        tls,
        reconnect,
        request: request.into_bytes(),
        head_only: method == "HEAD",
        least: args.number::<u64>("min-requests", 1)?.div_ceil(connections),
        until: started + Duration::from_secs_f64(args.number("seconds", 1.0)?),
        pause: Duration::from_secs_f64(args.number("pause-ms", 0.0)? / 1e3),
    });
    let mut latencies = runtime.block_on(async {
        let tasks: Vec<_> = (0..connections).map(|_| tokio::spawn(client(Arc::clone(&plan)))).collect();
        let mut latencies: Vec<f64> = Vec::new();
        for task in tasks {
            latencies.extend(task.await??);
        }
        Ok::<_, Failure>(latencies)
    })?;
    let took = started.elapsed().as_secs_f64();
    let requests = latencies.len();
    #[allow(clippy::cast_precision_loss, reason = "figures to three digits")]
    let rate = requests as f64 / took;
    println!(
        "{{\"seconds\":{took:.6},\"requests\":{requests},\"requests_per_second\":{rate:.3},\"p50_ms\":{:.4},\"p99_ms\":{:.4}}}",
        quantile(&mut latencies, 0.5),
        quantile(&mut latencies, 0.99)
    );
    Ok(())
}

/// One client's requests, one after the other; returns their latencies in milliseconds, with the handshake where each has one.
async fn client(plan: Arc<Plan>) -> Result<Vec<f64>, Failure> {
    let mut latencies = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while (latencies.len() as u64) < plan.least || Instant::now() < plan.until {
        let begun = Instant::now();
        let socket = TcpStream::connect(&plan.addr).await?;
        socket.set_nodelay(true)?;
        if plan.reconnect != Reconnect::No {
            // Closed at once, so that no port stays taken: there are fewer of them than a few turns need.
            socket.set_zero_linger()?;
        }
        let Some(config) = &plan.tls else {
            requests(socket, &plan, &mut buffer, &mut latencies, begun).await?;
            continue;
        };
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(tls::server_name(&plan.addr)?, socket).await?;
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        if plan.reconnect == Reconnect::Resumed && !resumed && !latencies.is_empty() {
            return Err("a session was not resumed".into());
        }
        requests(stream, &plan, &mut buffer, &mut latencies, begun).await?;
    }
    Ok(latencies)
}

/// The requests of one connection, the first of which has `begun`.
async fn requests(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    plan: &Plan,
    buffer: &mut [u8],
    latencies: &mut Vec<f64>,
    mut begun: Instant,
) -> Result<(), Failure> {
    loop {
        stream.write_all(&plan.request).await?;
        tokio::time::timeout(SILENCE, read_answer(&mut stream, buffer, plan.head_only)).await??;
        latencies.push(begun.elapsed().as_secs_f64() * 1e3);
        if !plan.pause.is_zero() {
            tokio::time::sleep(plan.pause).await;
        }
        let over = latencies.len() as u64 >= plan.least && Instant::now() >= plan.until;
        if over || plan.reconnect != Reconnect::No {
            return Ok(());
        }
        begun = Instant::now();
    }
}

async fn read_answer(stream: &mut (impl AsyncRead + Unpin), buffer: &mut [u8], head_only: bool) -> Result<(), Failure> {
    let mut filled = 0;
    let end = loop {
        let got = stream.read(&mut buffer[filled..]).await?;
        if got == 0 {
            return Err("the server closed the connection".into());
        }
        // An answer's head is short, so looking again from its start costs nothing.
        filled += got;
        if let Some(at) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
    if !head.starts_with("http/1.1 200") {
        return Err(format!("an answer that is not 200: {}", String::from_utf8_lossy(&buffer[..filled])).into());
    }
    if head_only {
        return Ok(());
    }
    if head.contains("\r\ntransfer-encoding: chunked") {
        // The last chunk: a zero after the end of another, or at once.
        let mut tail: Vec<u8> = buffer[end - 2..filled].to_vec();
        while !tail.ends_with(b"\r\n0\r\n\r\n") {
            let got = stream.read(buffer).await?;
            if got == 0 {
                return Err("the server closed the connection within a body".into());
            }
            tail.drain(..tail.len().saturating_sub(8));
            tail.extend_from_slice(&buffer[..got]);
        }
        return Ok(());
    }
    let length = head.split("\r\ncontent-length:").nth(1).and_then(|rest| rest.split("\r\n").next());
    let length: usize = length.ok_or("an answer without a length")?.trim().parse()?;
    let mut left = (end + length).checked_sub(filled).ok_or("more bytes than the answer has")?;
    while left > 0 {
        let got = stream.read(buffer).await?;
        if got == 0 {
            return Err("the server closed the connection within a body".into());
        }
        left = left.checked_sub(got).ok_or("more bytes than the answer has")?;
    }
    Ok(())
}
