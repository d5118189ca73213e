//! Pulls one target over and over, on several connections, and throws the bytes away.

use crate::args::{Args, Failure};
use crate::client::Connection;
use crate::tls;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub fn run(args: &Args) -> Result<(), Failure> {
    let (addr, path) = (args.text("addr")?, args.text("path")?);
    let size: u64 = args.number("size", 0)?;
    let clients: u64 = args.number("clients", 1)?;
    let seconds = Duration::from_secs_f64(args.number("seconds", 0.0)?);
    let min_requests: u64 = args.number("min-requests", 1)?;
    let tls = tls::config(args, false)?;
    let requests = AtomicU64::new(0);
    let failure: Mutex<Option<Failure>> = Mutex::new(None);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut connection = Connection::over(addr, tls.clone());
                // Each client pulls its share of the least number, and goes on until the time is over.
                let mut own = 0;
                while own < min_requests.div_ceil(clients) || started.elapsed() < seconds {
                    let outcome = connection.drain(path).and_then(|answer| answer.expect(path, &[200]));
                    let problem = match outcome {
                        Ok(answer) if answer.length == size => None,
                        Ok(answer) => Some(format!("{path}: {} bytes instead of {size}", answer.length).into()),
                        Err(failure) => Some(failure),
                    };
                    if let Some(problem) = problem {
                        *failure.lock().expect("no holder of this lock panics") = Some(problem);
                        return;
                    }
                    own += 1;
                    requests.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let took = started.elapsed().as_secs_f64();
    if let Some(failure) = failure.into_inner()? {
        return Err(failure);
    }
    let requests = requests.into_inner();
    let bytes = requests * size;
    #[allow(clippy::cast_precision_loss, reason = "figures to three digits")]
    let rate = bytes as f64 / took;
    println!("{{\"seconds\":{took:.6},\"requests\":{requests},\"bytes\":{bytes},\"bytes_per_second\":{rate:.0}}}");
    Ok(())
}
