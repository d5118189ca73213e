//! Wrong passwords, another one at each attempt, as fast as the server answers them.

use crate::args::{Args, Failure};
use crate::client::Connection;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub fn run(args: &Args) -> Result<(), Failure> {
    let (addr, path, username) = (args.text("addr")?, args.text("path")?, args.text("username")?);
    let clients: u64 = args.number("clients", 16)?;
    let until = Instant::now() + Duration::from_secs_f64(args.number("seconds", 1.0)?);
    let attempts = AtomicU64::new(0);
    let refused = AtomicU64::new(0);
    let failure: Mutex<Option<Failure>> = Mutex::new(None);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut connection = Connection::new(addr);
                while Instant::now() < until {
                    let number = attempts.fetch_add(1, Ordering::Relaxed);
                    let login = base64(format!("{username}:no, {number}").as_bytes());
                    let header = format!("Authorization: Basic {login}\r\n");
                    // 401: the password was looked at and is wrong. 429, 503: too many are looked at already.
                    let outcome = connection.send("GET", path, &header, b"");
                    match outcome.and_then(|answer| answer.expect("a wrong password", &[401, 429, 503])) {
                        Ok(answer) if answer.status == 401 => {}
                        Ok(_) => _ = refused.fetch_add(1, Ordering::Relaxed),
                        Err(problem) => {
                            *failure.lock().expect("no holder of this lock panics") = Some(problem);
                            return;
                        }
                    }
                }
            });
        }
    });
    if let Some(failure) = failure.into_inner()? {
        return Err(failure);
    }
    let (attempts, refused) = (attempts.into_inner(), refused.into_inner());
    let took = started.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "figures to three digits")]
    let (looked_at, turned_away) = ((attempts - refused) as f64 / took, refused as f64 / took);
    println!(
        "{{\"seconds\":{took:.6},\"looked_at_per_second\":{looked_at:.1},\"turned_away_per_second\":{turned_away:.1}}}"
    );
    Ok(())
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let sextet = bits >> (18 - 6 * place) & 63;
            text.push(if place > three.len() { '=' } else { char::from(ALPHABET[sextet]) });
        }
    }
    text
}
