//! Puts the server together from its configuration.

mod clocks;
mod descriptors;
mod options;
mod private;
mod refresh;
mod scrub;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::{net::TcpListener, sync::watch};

use self::options::{http_options, log_options, memories, trace_options};
pub use self::{
    options::{location, open_store, registry_options},
    private::keep_private,
    scrub::Recording,
};
use crate::{
    audit::{Audit, AuditError},
    config::{self, Config},
    http::{self, Listeners, Purpose, Service},
    registry::{self, Registry},
    reload::{self, Hangup},
    snapshot::{Checked, Live, Snapshot, SnapshotError, Sources, policy_files},
    storage::{Location, OpenError, Store, disk},
    telemetry::{self, Metrics, counted},
};

/// The time between two looks for denials that were only counted.
const COUNTED: std::time::Duration = std::time::Duration::from_secs(5);

/// The reason why the server did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Logs or traces.
    #[error(transparent)]
    Telemetry(#[from] telemetry::TelemetryError),
    /// The configuration, a policy, a certificate, or a key.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The record of decisions.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The store.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The wish for a lease.
    #[error(transparent)]
    Lease(#[from] registry::Error),
    /// An address.
    #[error(
        "cannot listen on {address} ({key}): {source}; is another program listening there, or the address not this machine's?"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The configuration's key.
        key: &'static str,
        /// The system's words.
        source: std::io::Error,
    },
    /// The system.
    #[error("the process could not be set up: {0}")]
    System(#[from] std::io::Error),
}

/// The exit code of a server that is told twice to end.
const EXIT_AT_ONCE: u8 = 130;

/// Runs the server until SIGTERM or SIGINT. A second signal ends it at once.
///
/// # Errors
/// An obstacle to the start. A wrong configuration, policy or certificate is one; none is left out.
pub fn serve(sources: Sources) -> Result<(), AppError> {
    let checked = Checked::new(sources)?;
    let config = checked.config();
    keep_private(config);
    let telemetry = telemetry::init(&log_options(config), &trace_options(config))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(run(checked));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    telemetry.shutdown();
    outcome
}

async fn run(checked: Checked) -> Result<(), AppError> {
    // before anything is announced: a signal in between must not be lost
    let mut stop = Stop::new()?;
    let hangup = Hangup::new()?;
    // before anything is written: a taken port leaves nothing behind. Clients that come early wait
    let listeners = listeners(checked.config()).await?;
    let metrics = Metrics::new();
    let connections = descriptors::fit(checked.config());
    let location = location(checked.config());
    let (memory, credentials) = memories(checked.config());
    let store = Store::open(&location, &memory, metrics.clone()).await?;
    warn_of_case(&location);
    private::warn(checked.config(), checked.files(), &location);
    let live = Arc::new(Live::start(checked, &credentials)?);
    let snapshot = live.current();
    let config = snapshot.config();
    let registry = Arc::new(Registry::new(store.clone(), registry_options(config), metrics.clone()));
    registry.lease().renew_wish(clocks::RENEWS).await?;
    reload::say_lease(&registry).await;
    let audit = Audit::open(&config.audit)?;
    announce(&snapshot, &location, &listeners)?;
    let service = Arc::new(Service::new(
        Arc::clone(&registry),
        Arc::clone(&live),
        audit.clone(),
        http_options(config, connections),
        metrics.clone(),
    ));
    let (stopping, stopped) = watch::channel(false);
    let denials = tokio::spawn(record_denials(audit.clone(), stopped.clone()));
    let scrubbing = match config.scrub.interval {
        Some(interval) => {
            Some(scrub::start(interval, Arc::clone(&live), config.clone(), metrics.clone(), stopped.clone())?)
        }
        None => None,
    };
    let refreshing = refresh::Refreshing {
        mirror: Arc::clone(service.mirror()),
        registry: Arc::clone(&registry),
        live: Arc::clone(&live),
        metrics: metrics.clone(),
    };
    let refreshing = tokio::spawn(refresh::run(refreshing, stopped.clone()));
    let clocks = tokio::spawn(clocks::watch(store, Arc::clone(&registry), Arc::clone(&live), stopped.clone()));
    let reloading = tokio::spawn(reload::run(live, Arc::clone(&registry), hangup, metrics, stopped.clone()));
    let recording = tokio::spawn(record_pulls(Arc::clone(&registry), stopped.clone()));
    let serving = tokio::spawn(http::serve(service, listeners, stopped));
    let signal = stop.wait().await;
    tracing::info!(signal, "stopping: no new connections; running requests get their grace period");
    // somebody who asks twice does not want to wait
    tokio::spawn(async move {
        let signal = stop.wait().await;
        tracing::warn!(signal, "stopping at once: this was asked for twice, and running requests are broken off");
        std::process::exit(i32::from(EXIT_AT_ONCE));
    });
    let _ = stopping.send(true);
    let _ = tokio::join!(serving, reloading, recording, clocks, denials, refreshing);
    // a failure is in the log
    let _ = audit.record_denials(true);
    // those of the last requests
    if let Err(error) = registry.pulls.record().await {
        tracing::warn!(%error, "the last pulls could not be recorded");
    }
    if let Some(scrubbing) = scrubbing {
        scrubbing.end().await;
    }
    tracing::info!("stopped");
    Ok(())
}

async fn record_pulls(registry: Arc<Registry>, mut stopped: watch::Receiver<bool>) {
    registry.pulls.keep_recording(stopped.wait_for(|stopped| *stopped)).await;
}

/// Writes the lines for denials that were only counted.
async fn record_denials(audit: Audit, mut stopped: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(COUNTED);
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            _ = tick.tick() => {
                // a failure is in the log
                let _ = audit.record_denials(false);
            }
        }
    }
}

struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

async fn listeners(config: &Config) -> Result<Listeners, AppError> {
    use config::Listen;
    let bind = async |address: SocketAddr, key| {
        TcpListener::bind(address).await.map_err(|source| AppError::Listen { address, key, source })
    };
    let main = SocketAddr::new(config.server.bind_address, config.server.port);
    let mut listeners = vec![(bind(main, "server.bind_address and server.port").await?, Purpose::Main)];
    let (health, metrics) = (config.observability.health.listen, config.observability.metrics.listen);
    match (health, metrics) {
        (Listen::Address(one), Listen::Address(other)) if one == other => {
            let listener = bind(one, "observability.health.listen").await?;
            listeners.push((listener, Purpose::Side { health: true, metrics: true }));
        }
        (health, metrics) => {
            if let Listen::Address(address) = health {
                let listener = bind(address, "observability.health.listen").await?;
                listeners.push((listener, Purpose::Side { health: true, metrics: false }));
            }
            if let Listen::Address(address) = metrics {
                let listener = bind(address, "observability.metrics.listen").await?;
                listeners.push((listener, Purpose::Side { health: false, metrics: true }));
            }
        }
    }
    Ok(listeners)
}

/// Logs in one line the served store, the addresses, and the repositories that are open to everyone.
fn announce(snapshot: &Snapshot, location: &Location, listeners: &Listeners) -> Result<(), AppError> {
    let config = snapshot.config();
    let scheme = if snapshot.tls().is_some() { "https" } else { "http" };
    let mut side = Vec::new();
    let mut main = None;
    for (listener, purpose) in listeners {
        let address = listener.local_addr()?;
        match purpose {
            Purpose::Main => main = Some(address),
            Purpose::Side { health, metrics } => {
                let what = if *health && *metrics {
                    "health and metrics"
                } else if *health {
                    "health"
                } else {
                    "metrics"
                };
                side.push(format!("{what} at http://{address}"));
            }
        }
    }
    let Some(address) = main else { return Ok(()) };
    let open = snapshot.policy().open_to_everyone().filter(|namespace| !snapshot.caches().has(namespace));
    let open: Vec<&str> = open.collect();
    let access = match open.as_slice() {
        [] => "policy decides who may do what".to_owned(),
        open => {
            let which = open
                .iter()
                .map(|prefix| if *prefix == "*" { "every repository".to_owned() } else { format!("{prefix}/") });
            format!("anyone may push to {}", which.collect::<Vec<_>>().join(", "))
        }
    };
    let access = access + "; " + &policies(config);
    let access = match (config.identity.len(), snapshot.requires_certificate()) {
        (0, false) => access,
        (0, true) => access + "; a client certificate is required",
        (n, _) => format!("{access}; {} can log in", counted(n as u64, "identity")),
    };
    let access = match snapshot.caches().described() {
        caches if caches.is_empty() => access,
        caches => format!("{access}; caches {}", caches.join("; ")),
    };
    for warning in snapshot.warnings() {
        tracing::warn!("{warning}");
    }
    if !reachable_by_us_alone(config.server.bind_address) {
        if !open.is_empty() {
            let without = if snapshot.tls().is_some() { "" } else { "without TLS and " };
            tracing::warn!(
                "WARNING: anyone who can reach {address} may push to this registry, {without}without a \
                 login. Set default_allow = false, or bind_address = \"127.0.0.1\"."
            );
        } else if snapshot.tls().is_none()
            && !snapshot.accounts().is_empty()
            && config.server.trusted_proxies.is_empty()
        {
            tracing::warn!(
                "WARNING: passwords and tokens travel to {address} in plain text. Set [server.tls], or \
                 server.trusted_proxies to the proxy that speaks TLS, or bind_address = \"127.0.0.1\"."
            );
        }
    }
    let beside = side.into_iter().fold(String::new(), |beside, side| beside + "; " + &side);
    tracing::info!(
        address = %address,
        version = env!("CARGO_PKG_VERSION"),
        "serving {scheme}://{address} from {}; {access}{beside}", location.place()
    );
    Ok(())
}

/// Says where policy files were looked for, and how many were found.
fn policies(config: &Config) -> String {
    let Some(dir) = &config.policy_dir else { return "no policy files are read".to_owned() };
    let found = policy_files(config).map_or(0, |files| files.len());
    let place = std::path::absolute(&dir.path).unwrap_or_else(|_| dir.path.clone());
    format!("{} in {}", counted(found as u64, "policy file"), place.display())
}

fn reachable_by_us_alone(address: IpAddr) -> bool {
    address.is_loopback()
}

fn warn_of_case(location: &Location) {
    let Location::Directory { root, .. } = location else { return };
    match disk::case_insensitive(root) {
        Ok(false) => {}
        Ok(true) => tracing::warn!(
            "the directory {} cannot tell upper from lower case: tags such as V1 and v1 would be one there; use a \
             file system that can, or tags in one case",
            root.display()
        ),
        Err(error) => tracing::warn!(%error, "whether the directory can tell upper from lower case is not known"),
    }
}
