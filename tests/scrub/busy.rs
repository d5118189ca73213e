//! A machine that is never idle.

use std::{
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use simple_registry::oci::Name;

use crate::{
    shelf::Shelf,
    world::{configuration, push_blob},
};

/// What scrub may have of one core at least: half of the twentieth that it is given, since such tests run beside each other.
const LEAST: f64 = 0.025;

/// The time on a core that `times` of a shell tells of a child, as in `0m1.230s 0m0.100s`.
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
    let config = configuration(beside.path(), shelf.root(), "");
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
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(text.contains("read back: 4 blobs"), "{text}");
        let core = core(text.lines().last().unwrap());
        // in spare time alone it gets some thousandth, and takes minutes
        let most = core.div_f64(LEAST) + Duration::from_secs(3);
        assert!(took < most, "{took:?} for {core:?} on a core");
    });
}
