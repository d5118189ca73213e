//! Pushes blobs, monolithic or streamed; the digests are computed before the clock starts.

use crate::args::{Args, Failure, median};
use crate::client::{Connection, location, with_digest};
use crate::content::{Content, fresh_seed};
use std::sync::{Barrier, Mutex};
use std::time::Instant;

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// POST, then one PUT with the whole body and its length.
    Mono,
    /// POST, one PATCH with a chunked body of unknown length, and an empty PUT.
    Stream,
}

#[derive(Default)]
struct Pushed {
    push_ms: Vec<f64>,
    final_put_ms: Vec<f64>,
    digests: Vec<String>,
    failure: Option<Failure>,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let mode = match args.text("mode")? {
        "mono" => Mode::Mono,
        "stream" => Mode::Stream,
        other => return Err(format!("--mode {other:?} is neither mono nor stream").into()),
    };
    let (addr, repo) = (args.text("addr")?, args.text("repo")?);
    let size: u64 = args.number("size", 0)?;
    let clients: u64 = args.number("clients", 1)?;
    let count: u64 = args.number("count", 1)?;
    let seed: u64 = args.number("seed", fresh_seed())?;
    let ready = Barrier::new(usize::try_from(clients)? + 1);
    let all = Mutex::new(Pushed::default());
    let mut started = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..clients {
            let (ready, all) = (&ready, &all);
            scope.spawn(move || {
                let mut content = Content::new(seed, size);
                let seeds: Vec<u64> = (0..count).map(|n| seed + client * count + n).collect();
                let mut digests = Vec::new();
                for seed in &seeds {
                    content.reseed(*seed);
                    digests.push(content.digest());
                }
                ready.wait();
                let mut connection = Connection::new(addr);
                for (seed, digest) in seeds.into_iter().zip(digests) {
                    content.reseed(seed);
                    let begun = Instant::now();
                    let outcome = push(&mut connection, repo, &mut content, &digest, mode);
                    let took = begun.elapsed().as_secs_f64() * 1e3;
                    let mut all = all.lock().expect("no holder of this lock panics");
                    match outcome {
                        Ok(final_put) => {
                            all.push_ms.push(took);
                            all.final_put_ms.push(final_put);
                            all.digests.push(digest);
                        }
                        Err(failure) => {
                            all.failure = Some(failure);
                            return;
                        }
                    }
                }
            });
        }
        ready.wait();
        started = Instant::now();
    });
    let seconds = started.elapsed().as_secs_f64();
    let mut all = all.into_inner()?;
    if let Some(failure) = all.failure {
        return Err(failure);
    }
    let bytes = size * clients * count;
    #[allow(clippy::cast_precision_loss, reason = "figures to three digits")]
    let rate = bytes as f64 / seconds;
    println!(
        "{{\"seconds\":{seconds:.6},\"bytes\":{bytes},\"bytes_per_second\":{rate:.0},\"push_ms\":{:.3},\"final_put_ms\":{:.3},\"digests\":{:?}}}",
        median(&mut all.push_ms),
        median(&mut all.final_put_ms),
        all.digests
    );
    Ok(())
}

/// Pushes one blob; returns how long the PUT that closes it took, in milliseconds.
fn push(
    connection: &mut Connection,
    repo: &str,
    content: &mut Content,
    digest: &str,
    mode: Mode,
) -> Result<f64, Failure> {
    let started = connection.send("POST", &format!("/v2/{repo}/blobs/uploads/"), "", b"")?.expect("POST", &[202])?;
    let mut target = location(&started)?;
    let octets = "Content-Type: application/octet-stream\r\n";
    if mode == Mode::Stream {
        let headers = format!("{octets}Transfer-Encoding: chunked\r\n");
        let patched = connection.upload("PATCH", &target, &headers, &mut |stream| content.write_chunked(stream))?;
        target = location(&patched.expect("PATCH", &[202])?)?;
    }
    let target = with_digest(&target, digest);
    let begun = Instant::now();
    let put = if mode == Mode::Stream {
        connection.send("PUT", &target, "", b"")?
    } else {
        let headers = format!("{octets}Content-Length: {}\r\n", content.size());
        connection.upload("PUT", &target, &headers, &mut |stream| content.write_plain(stream))?
    };
    put.expect("PUT", &[201])?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}
