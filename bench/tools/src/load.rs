//! Requests per second with latencies, for what wrk cannot do: `HEAD` (it waits for the body that never comes) and slow
//! answers that must be counted to their end.

use crate::args::{Args, Failure, quantile};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// No single answer may take longer.
const SILENCE: Duration = Duration::from_secs(120);

pub fn run(args: &Args) -> Result<(), Failure> {
    let addr = args.text("addr")?.to_owned();
    let method = args.text("method").unwrap_or("GET");
    let extra: String = args.all("header").map(|header| format!("{header}\r\n")).collect();
    let request = format!("{method} {} HTTP/1.1\r\nHost: {addr}\r\n{extra}\r\n", args.text("path")?);
    let connections: u64 = args.number("connections", 1)?;
    let least = args.number::<u64>("min-requests", 1)?.div_ceil(connections);
    let seconds = Duration::from_secs_f64(args.number("seconds", 1.0)?);
    let head_only = method == "HEAD";
    let request: Arc<[u8]> = request.into_bytes().into();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let started = Instant::now();
    let mut latencies = runtime.block_on(async {
        let tasks: Vec<_> = (0..connections)
            .map(|_| tokio::spawn(client(addr.clone(), Arc::clone(&request), head_only, least, started + seconds)))
            .collect();
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

/// One connection's requests, one after the other; returns their latencies in milliseconds.
async fn client(
    addr: String,
    request: Arc<[u8]>,
    head_only: bool,
    least: u64,
    until: Instant,
) -> Result<Vec<f64>, Failure> {
    let mut stream = TcpStream::connect(&addr).await?;
    stream.set_nodelay(true)?;
    let mut latencies = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while (latencies.len() as u64) < least || Instant::now() < until {
        let begun = Instant::now();
        stream.write_all(&request).await?;
        tokio::time::timeout(SILENCE, read_answer(&mut stream, &mut buffer, head_only)).await??;
        latencies.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    Ok(latencies)
}

async fn read_answer(stream: &mut TcpStream, buffer: &mut [u8], head_only: bool) -> Result<(), Failure> {
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
