//! A machine that is never idle.

use std::{
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use simple_registry::oci::Name;

use crate::scrub::{shelf::Shelf, world::push_blob};
use crate::support::MACHINE;

/// The part of one core that scrub must have: a fifth of its twentieth, since other tests with children of their own
/// run at the same time. In idle time alone it has some thousandth.
const LEAST: f64 = 0.01;

/// Parses the time on a core that `times` of a shell tells of a child, as in `0m1.230s 0m0.100s`.
fn core(times: &str) -> Duration {
    let of = |text: &str| {
        let (minutes, seconds) = text.trim_end_matches('s').split_once('m').unwrap();
        minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap()
    };
    Duration::from_secs_f64(times.split_whitespace().map(of).sum())
}

#[tokio::test]
async fn scrub_ends_while_all_cores_are_busy() {
    let shelf = Shelf::new().await;
    let name: Name = "a".parse().unwrap();
    for byte in 0..4 {
        push_blob(&shelf.server, &name, &vec![byte; 8_000_000]).await;
    }
    let beside = tempfile::tempdir().unwrap();
    // the cores alone are busy: nothing waits for a disk that others may be writing to
    let config = beside.path().join("config.toml");
    let text = format!("[storage.fs]\nroot_dir = '{}'\ndurable = false\n", shelf.root().display());
    std::fs::write(&config, text).unwrap();
    let _turn = MACHINE.lock().await;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 * thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let mut command = Command::new("sh");
        command.args(["-c", "\"$0\" -c \"$1\" scrub --verify-content; code=$?; times; exit $code"]);
        let began = Instant::now();
        let output = command.arg(env!("CARGO_BIN_EXE_simple-registry")).arg(&config).output().unwrap();
        let took = began.elapsed();
        over.store(true, Ordering::Relaxed);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("read back: 4 blobs"), "{text}");
        let core = core(text.lines().last().unwrap());
        let most = core.div_f64(LEAST) + Duration::from_secs(20);
        assert!(took < most, "{took:?} for {core:?} on a core");
    });
}
