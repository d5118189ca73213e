//! Runs `simple-registry scrub`: one run over a store, beside the servers that use it.

mod progress;
mod report;

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser as _},
};
use tokio::signal::unix::{SignalKind, signal};

use self::report::Report;
use super::{format::Format, print, store::Place};
use crate::{
    app,
    config::{self, Config},
    oci::Name,
    policy::Policy,
    priority::Background,
    scrub::{self, Options, Pass, Summary},
    snapshot::policy_files,
};

/// The options of a run.
#[derive(Debug, Args)]
pub(super) struct Scrub {
    /// Change nothing; say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do only this, of links, retention, garbage, uploads and content; all that can be done but content without it
    #[arg(long, value_name = "PASSES", value_delimiter = ',', value_parser = pass())]
    only: Vec<Pass>,
    /// Look at repositories with this name or below it alone; bytes and uploads are not freed then
    #[arg(long, value_name = "PREFIX")]
    repository: Option<Name>,
    /// Read content back and hash it as well: so many of a hundred blobs [default: 100]
    #[arg(long, value_name = "PERCENT", num_args = 0..=1, require_equals = true, default_missing_value = "100",
          value_parser = clap::value_parser!(u8).range(1..=100))]
    verify_content: Option<u8>,
    /// Stop after this time, such as `2h`; a later run does the rest, and reads content back from where this one was
    #[arg(long, value_name = "TIME", value_parser = duration)]
    max_duration: Option<Duration>,
    /// Write a line for each thing that is removed or wrong into this file, and the summary; `-` is standard output
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The form of the report and the summary
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    place: Place,
}

fn pass() -> impl clap::builder::TypedValueParser<Value = Pass> {
    PossibleValuesParser::new(Pass::ALL.map(Pass::as_str)).map(|word| {
        let pass = Pass::ALL.into_iter().find(|pass| pass.as_str() == word);
        pass.expect("the words are those of the passes")
    })
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    config::duration(text).ok_or("write a number and a unit, such as 90s, 15m, 2h or 1d")
}

/// Does what the command says; its exit code.
pub(super) fn run(scrub: &Scrub, configs: &[PathBuf]) -> ExitCode {
    if let Err(says) = scrub.refuse_what_no_pass_honours() {
        print::error_line(format_args!("error: {says}"));
        return ExitCode::from(2);
    }
    let config = match scrub.place.config(configs) {
        Ok(config) => config,
        Err(code) => return code,
    };
    app::keep_private(&config);
    match policy(&config).and_then(|policy| scrub.execute(&config, &policy)) {
        Ok(summary) if summary.is_clean() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(3),
        Err(why) => {
            print::error(why.trim_end());
            ExitCode::FAILURE
        }
    }
}

/// Reads and builds the policies. A fault in any of them ends the command.
fn policy(config: &Config) -> Result<Policy, String> {
    let files = policy_files(config).map_err(|errors| errors.to_string())?;
    Policy::build(config, &files).map_err(|errors| errors.to_string())
}

impl Scrub {
    /// Refuses an option that a pass would ignore.
    fn refuse_what_no_pass_honours(&self) -> Result<(), String> {
        match self.only.iter().find(|pass| self.repository.is_some() && !pass.honours_repository()) {
            None => Ok(()),
            Some(pass) => Err(format!(
                "--repository cannot be used with the pass `{pass}`, which frees bytes of all repositories; leave out \
                 `{pass}` or --repository",
                pass = pass.as_str()
            )),
        }
    }

    fn passes(&self) -> BTreeSet<Pass> {
        let mut passes: BTreeSet<Pass> = if self.only.is_empty() {
            let can = |pass: &Pass| self.repository.is_none() || pass.honours_repository();
            Pass::ALL.into_iter().filter(|pass| *pass != Pass::Content && can(pass)).collect()
        } else {
            self.only.iter().copied().collect()
        };
        if self.verify_content.is_some() {
            passes.insert(Pass::Content);
        }
        passes
    }

    fn execute(&self, config: &Config, policy: &Policy) -> Result<Summary, String> {
        let options = Options {
            dry_run: self.dry_run,
            passes: self.passes(),
            repository: self.repository.clone(),
            verify_percent: self.verify_content.unwrap_or(100),
            max_duration: self.max_duration,
        };
        let failed = |error: &dyn std::fmt::Display| format!("error: {}", print::one_line(&error.to_string()));
        let report = Report::open(self.report.as_deref(), self.format, self.dry_run).map_err(|error| failed(&error))?;
        let observer = app::Recording::open(config, self.dry_run, report).map_err(|error| failed(&error))?;
        let observer = Arc::new(observer);
        let background = Background::start().map_err(|error| failed(&error))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| failed(&error))?;
        let work = async {
            let mut terminate = signal(SignalKind::terminate()).map_err(|error| failed(&error))?;
            let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| failed(&error))?;
            let work = async {
                let store = app::open_store(config).await.map_err(|error| failed(&error))?;
                let metrics = crate::telemetry::Metrics::new();
                let run = scrub::run(
                    &store,
                    config,
                    policy,
                    options,
                    Arc::<app::Recording<Report>>::clone(&observer),
                    metrics,
                );
                background.drive(Box::pin(run)).await.map_err(|ended| {
                    // the part of the run before its failure is told all the same
                    observer.then().finish();
                    let told = observer.then().summary(&ended.summary).err();
                    told.into_iter().fold(failed(&ended), |why, also| format!("{why}\nerror: {also}"))
                })
            };
            let stopped = |signal| {
                format!("scrub was stopped by {signal}: what it did until then is done, and the next run does the rest")
            };
            tokio::select! {
                outcome = work => outcome,
                _ = terminate.recv() => Err(stopped("SIGTERM")),
                _ = interrupt.recv() => Err(stopped("SIGINT")),
            }
        };
        let outcome = runtime.block_on(work);
        runtime.shutdown_timeout(Duration::from_secs(1));
        observer.then().finish();
        let summary = outcome?;
        observer.then().summary(&summary).map_err(|error| failed(&error))?;
        Ok(summary)
    }
}
