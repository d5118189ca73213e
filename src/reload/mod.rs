//! Watches files, and puts edits into force while the server runs.
//!
//! It watches *directories*, not files: editors write a new file and rename it, and a mounted volume swaps a link. It
//! does not ask what happened. After any event that may concern a watched file, it reads everything again, and
//! `snapshot` finds out whether anything is new. SIGHUP does the same.

mod lease;
mod watch;

use std::{sync::Arc, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch as channel},
};

pub use self::lease::{hand_over as hand_over_lease, say as say_lease};
use self::watch::Watch;
use crate::{
    registry::Registry,
    snapshot::{Live, Reload},
    telemetry::Metrics,
};

/// The time for which files have to be quiet before they are read. An edit of several files is one edit.
const QUIET: Duration = Duration::from_millis(100);
/// The longest wait for the end of an edit.
const LONGEST: Duration = Duration::from_secs(2);

/// The time after which a reading counts as one that hangs.
const SLOW: Duration = Duration::from_secs(10);

/// SIGHUP. Received from when this is made: before that it would end the process.
#[derive(Debug)]
pub struct Hangup(Signal);

impl Hangup {
    /// Begins to receive it.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self(signal(SignalKind::hangup())?))
    }
}

/// Watches until `stop` turns true.
pub async fn run(
    live: Arc<Live>,
    registry: Arc<Registry>,
    mut hangup: Hangup,
    metrics: Metrics,
    mut stop: channel::Receiver<bool>,
) {
    let (touched, mut events) = mpsc::channel(1);
    let following = async {
        let mut watch = follow(Watch::new(touched), &live, &registry, &metrics).await;
        loop {
            let asked = tokio::select! {
                _ = hangup.0.recv() => true,
                touch = events.recv() => {
                    if touch.is_none() {
                        return;
                    }
                    settle(&mut events).await;
                    false
                }
            };
            once(&live, &registry, &metrics, asked).await;
            watch = follow(watch, &live, &registry, &metrics).await;
        }
    };
    // a reading that does not end must not keep the server from ending
    tokio::select! {
        () = stopped(&mut stop) => {}
        () = following => {}
    }
}

/// Watches the files that are named now. Events between the first reading of a directory and its first watching lead to
/// another reading, which may name further files.
async fn follow(mut watch: Watch, live: &Arc<Live>, registry: &Registry, metrics: &Metrics) -> Watch {
    loop {
        let of = Arc::clone(live);
        // looking at a path may take as long as reading it
        let watched = tokio::task::spawn_blocking(move || {
            let more = watch.set(of.watched());
            (watch, more)
        });
        let more;
        (watch, more) = match watched.await {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::error!(%error, "files are no longer watched; restart the server to watch them again");
                std::future::pending().await
            }
        };
        if !more {
            return watch;
        }
        once(live, registry, metrics, false).await;
    }
}

/// Returns once the server stops; a closed channel is a stop as well.
async fn stopped(stop: &mut channel::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Waits until nothing was touched for a moment.
async fn settle(events: &mut mpsc::Receiver<()>) {
    let _ = tokio::time::timeout(LONGEST, async {
        while let Ok(Some(())) = tokio::time::timeout(QUIET, events.recv()).await {}
    })
    .await;
}

async fn once(live: &Arc<Live>, registry: &Registry, metrics: &Metrics, asked: bool) {
    let before = live.refused();
    let reading = Arc::clone(live);
    let mut reading = tokio::task::spawn_blocking(move || reading.reload());
    let reload = if let Ok(reload) = tokio::time::timeout(SLOW, &mut reading).await {
        reload
    } else {
        let seconds = SLOW.as_secs();
        tracing::error!(
            "reading the configuration again has not ended after {seconds} s; what was in force still is; look for a \
                 named file or directory that does not answer"
        );
        reading.await
    };
    let Ok(reload) = reload else {
        tracing::error!("reading the configuration again did not come to its end; what was in force still is");
        return;
    };
    match reload {
        Reload::Changed { snapshot, restart } => {
            metrics.record_reload(true);
            for warning in snapshot.warnings() {
                tracing::warn!("{warning}");
            }
            if !restart.is_empty() {
                tracing::warn!(keys = restart.join(", "), "changed, and takes effect after a restart");
            }
            tracing::info!(
                snapshot = snapshot.number(),
                "reloaded: configuration, policies and certificates are in force"
            );
            if let Err(error) = hand_over_lease(registry, live).await {
                tracing::warn!(%error, "the new scrub.upload_expiry is not used yet: the store does not take it");
            }
        }
        Reload::Unchanged => {
            if before.is_some() {
                metrics.record_reload(true);
                tracing::info!("reloaded: the files say again what is in force");
            } else if asked {
                tracing::info!("reloaded: nothing has changed");
            }
        }
        // a fault of a file is logged once, however often the file is touched, and again for each SIGHUP
        Reload::Refused(error) if asked || before.as_ref() != Some(&error) => {
            metrics.record_reload(false);
            tracing::error!(%error, "not reloaded: what was in force before stays in force");
        }
        Reload::Refused(_) => {}
    }
}
