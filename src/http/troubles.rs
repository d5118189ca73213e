//! Finds the troubles of a server that pulls do not notice, for `/readyz` and `/metrics`.

use crate::{
    config::{Config, Storage},
    telemetry::counted,
};

use super::service::Service;

/// The seconds after which an edit should have been read.
const OVERDUE: u64 = 5;

/// Returns a line for each trouble that lasts, and sets the gauge of each kind.
pub(super) fn lasting(service: &Service) -> Vec<String> {
    let config = service.live.current();
    let reading = service.live.reading_for().map(|time| time.as_secs()).filter(|seconds| *seconds >= OVERDUE);
    let (is_full, is_read_only) = store(service, config.config());
    let troubles = [
        (
            "reload-refused",
            service.live.refused().is_some(),
            "the last edit was refused, and what was in force before still is; the log has the cause".to_owned(),
        ),
        (
            "reload-hangs",
            reading.is_some(),
            format!(
                "an edit has been read for {}, and what was in force before still is",
                counted(reading.unwrap_or_default(), "second")
            ),
        ),
        (
            "record",
            service.audit.failing().is_some(),
            "the record of decisions cannot be written; the log has the cause".to_owned(),
        ),
        ("store-full", is_full, "the store is full, and pushes fail; make room".to_owned()),
        (
            "store-read-only",
            is_read_only,
            "the store takes no writes, and pushes fail; see that the server may write there".to_owned(),
        ),
    ];
    for (kind, lasts, _) in &troubles {
        service.metrics.set_trouble(kind, *lasts);
    }
    troubles.into_iter().filter(|(_, lasts, _)| *lasts).map(|(_, _, says)| says).collect()
}

/// Returns whether the store is full, and whether it takes no writes: by the last write, and for a directory by its file
/// system.
fn store(service: &Service, config: &Config) -> (bool, bool) {
    let fault = service.metrics.write_fault();
    let Storage::Fs(fs) = &config.storage else { return (fault == Some("full"), fault == Some("denied")) };
    // a directory that does not answer is told of elsewhere
    let Ok(system) = rustix::fs::statvfs(&fs.root_dir) else { return (fault == Some("full"), fault == Some("denied")) };
    let is_read_only = system.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
    (fault == Some("full") || system.f_bavail == 0, fault == Some("denied") || is_read_only)
}
