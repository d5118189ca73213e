//! Fills a registry through its API: many tags, many repositories or many blobs.

use crate::args::{Args, Failure};
use crate::client::{Connection, location, with_digest};
use crate::content::{Content, fresh_seed};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Manifests that the tags of a long list are spread over, as they would be: tags by the hundred lie on one image, not by
/// the hundred thousand.
const MANIFESTS: u64 = 1000;

/// The smallest thing that a tag can point to: an image index of nothing, which needs no blob.
fn index(number: u64) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{{"number":"{number}"}}}}"#
    )
}

const INDEX_TYPE: &str = "Content-Type: application/vnd.oci.image.index.v1+json\r\n";
const BLOB_SIZE: u64 = 64;

#[derive(Clone, Copy)]
enum What {
    /// `<repo>:t000000`, `<repo>:t000001`, ... on one manifest.
    Tags,
    /// `<repo>/r000000:latest`, ...
    Repos,
    /// Small blobs in one repository.
    Blobs,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let what = match args.text("what")? {
        "tags" => What::Tags,
        "repos" => What::Repos,
        "blobs" => What::Blobs,
        other => return Err(format!("--what {other:?} is not one of tags, repos, blobs").into()),
    };
    let (addr, repo) = (args.text("addr")?, args.text("repo")?);
    let count: u64 = args.number("count", 0)?;
    let limit = Duration::from_secs_f64(args.number("limit-seconds", 600.0)?);
    let next = AtomicU64::new(0);
    let made = AtomicU64::new(0);
    let seed = fresh_seed();
    let failure: Mutex<Option<Failure>> = Mutex::new(None);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..args.number("clients", 16_u64).unwrap_or(16) {
            scope.spawn(|| {
                let mut connection = Connection::new(addr);
                while started.elapsed() < limit {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    if let Err(problem) = make(&mut connection, what, repo, number, seed) {
                        *failure.lock().expect("no holder of this lock panics") = Some(problem);
                        return;
                    }
                    made.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    if let Some(failure) = failure.into_inner()? {
        return Err(failure);
    }
    println!("{{\"seconds\":{:.3},\"made\":{}}}", started.elapsed().as_secs_f64(), made.into_inner());
    Ok(())
}

fn make(connection: &mut Connection, what: What, repo: &str, number: u64, seed: u64) -> Result<(), Failure> {
    let (target, index) = match what {
        What::Tags => (format!("/v2/{repo}/manifests/t{number:06}"), index(number % MANIFESTS)),
        What::Repos => (format!("/v2/{repo}/r{number:06}/manifests/latest"), index(0)),
        What::Blobs => return make_blob(connection, repo, seed + number),
    };
    connection.send("PUT", &target, INDEX_TYPE, index.as_bytes())?.expect(&target, &[201])?;
    Ok(())
}

fn make_blob(connection: &mut Connection, repo: &str, seed: u64) -> Result<(), Failure> {
    let mut content = Content::new(seed, BLOB_SIZE);
    let digest = content.digest();
    let mut bytes = Vec::new();
    content.write_plain(&mut bytes)?;
    let started = connection.send("POST", &format!("/v2/{repo}/blobs/uploads/"), "", b"")?.expect("POST", &[202])?;
    let target = with_digest(&location(&started)?, &digest);
    connection.send("PUT", &target, "Content-Type: application/octet-stream\r\n", &bytes)?.expect("PUT", &[201])?;
    Ok(())
}
