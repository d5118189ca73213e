//! Finds the store for the commands that work on one.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::Args;

use super::print;
use crate::{
    app,
    config::{Config, Login},
    registry::{Options, Registry},
    telemetry::Metrics,
};

/// The store of a command: that of the configuration, or a directory.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// The directory of a server that was started with `--data-dir`; no configuration file is read
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Place {
    /// Reads the configuration: of the named directory, or else from these files.
    ///
    /// # Errors
    /// The exit code. The fault is on standard error by then.
    pub(super) fn config(&self, files: &[PathBuf]) -> Result<Config, ExitCode> {
        match &self.data_dir {
            Some(_) if !files.is_empty() => {
                print::error_line(format_args!("error: {}", super::DATA_DIR_ALONE));
                Err(ExitCode::from(2))
            }
            Some(dir) => Ok(Config::for_data_dir(dir, Login::None)),
            // the error has places and carets of its own
            None => super::load(files).map_err(|error| {
                print::error(error.to_string().trim_end());
                ExitCode::FAILURE
            }),
        }
    }
}

/// Does something with the registry of a configuration's store, beside its servers: nothing that they may change is
/// remembered.
///
/// # Errors
/// The sentence of `work`, or the reason why there is no store.
pub(super) fn with_registry(
    config: &Config,
    work: impl AsyncFnOnce(&Arc<Registry>) -> Result<(), String>,
) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| format!("the process could not be set up: {error}"))?.block_on(async {
        let store = app::open_store(config).await.map_err(|error| error.to_string())?;
        let options = Options { cache_ttl: std::time::Duration::ZERO, ..app::registry_options(config) };
        work(&Arc::new(Registry::new(store, options, Metrics::new()))).await
    })
}

/// Formats a time in milliseconds since 1970 as RFC 3339.
pub(super) fn rfc3339(at: u64) -> String {
    let at = i64::try_from(at).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(at).unwrap_or(jiff::Timestamp::MAX).to_string()
}
