//! Support for several rooms: bytes to push, processes of their own, turns on the machine.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use simple_registry::{
    oci::{Algorithm, Digest},
    registry::Chunk,
};
use tokio::sync::Mutex;

/// The turn on the machine. Tests that keep every core busy hold it, and tests that measure time.
pub(crate) static MACHINE: Mutex<()> = Mutex::const_new(());

/// The time in which something happens that takes a moment.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn sha256(bytes: impl AsRef<[u8]>) -> Digest {
    Digest::of(Algorithm::Sha256, bytes.as_ref())
}

/// Returns a body that comes in one piece.
pub(crate) fn chunk(bytes: &[u8]) -> Chunk {
    chunk_in_pieces(vec![Bytes::copy_from_slice(bytes)])
}

/// Returns a body that comes in these pieces.
pub(crate) fn chunk_in_pieces(pieces: Vec<Bytes>) -> Chunk {
    let length = pieces.iter().map(|piece| piece.len() as u64).sum();
    let body = stream::iter(pieces.into_iter().map(Ok)).boxed();
    Chunk { range: None, length: Some(length), body, progress: Arc::new(|| {}) }
}

/// Returns a command that runs one test of this program, ignored or not, in a process of its own. `test` begins with `module_path!()`.
pub(crate) fn alone(test: &str) -> Command {
    one_test(Command::new(std::env::current_exe().unwrap()), test)
}

/// Returns the same command with files that cannot grow beyond `blocks` of 512 or 1024 bytes, as the shell counts.
///
/// A full disk cannot be had without privileges. The shell ignores the signal about the limit, so the write fails instead of the process.
pub(crate) fn alone_in_short_files(test: &str, blocks: u32) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!(r#"trap "" XFSZ; ulimit -f {blocks} && exec "$0" "$@""#)]);
    command.arg(std::env::current_exe().unwrap());
    one_test(command, test)
}

fn one_test(mut command: Command, test: &str) -> Command {
    let (_program, test) = test.split_once("::").expect("the name of the program, and the test");
    command.args(["--include-ignored", "--exact", test, "--nocapture", "--test-threads=1"]).stdin(Stdio::null());
    command
}

/// Runs a command of [`alone`] to its end, and fails unless its test ran and passed.
#[track_caller]
pub(crate) fn passes(mut command: Command) {
    let output = command.output().unwrap();
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{told}");
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a store has no temporary file, since another thread removes the file of a writer that was dropped.
pub(crate) async fn wait_for_no_temporaries(root: &Path) {
    let began = Instant::now();
    while std::fs::read_dir(root.join(".tmp")).unwrap().count() > 0 {
        assert!(began.elapsed() < PATIENCE, "temporary files stay");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
