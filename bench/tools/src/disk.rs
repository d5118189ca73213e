//! The disk's own speed: the same bytes written to plain files, each synced with its directory before it counts.

use crate::args::{Args, Failure};
use crate::content::{Content, fresh_seed};
use std::fs::File;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

pub fn run(args: &Args) -> Result<(), Failure> {
    let dir = Path::new(args.text("dir")?);
    let size: u64 = args.number("size", 0)?;
    let clients: u64 = args.number("clients", 1)?;
    let count: u64 = args.number("count", 1)?;
    std::fs::create_dir_all(dir)?;
    let failure: Mutex<Option<Failure>> = Mutex::new(None);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..clients {
            let failure = &failure;
            scope.spawn(move || {
                let mut content = Content::new(fresh_seed() + client, size);
                for n in 0..count {
                    if let Err(problem) = write_one(dir, &format!("{client}-{n}"), &mut content) {
                        *failure.lock().expect("no holder of this lock panics") = Some(problem);
                        return;
                    }
                }
            });
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    std::fs::remove_dir_all(dir)?;
    if let Some(failure) = failure.into_inner()? {
        return Err(failure);
    }
    let bytes = size * clients * count;
    #[allow(clippy::cast_precision_loss, reason = "figures to three digits")]
    let rate = bytes as f64 / seconds;
    println!("{{\"seconds\":{seconds:.6},\"bytes\":{bytes},\"bytes_per_second\":{rate:.0}}}");
    Ok(())
}

fn write_one(dir: &Path, name: &str, content: &mut Content) -> Result<(), Failure> {
    let mut file = File::create(dir.join(name))?;
    content.write_plain(&mut file)?;
    file.sync_data()?;
    File::open(dir)?.sync_all()?;
    Ok(())
}
