//! Runs `simple-registry policy`: shows policies before they are in force.

mod explain_retention;
mod replay;
mod tables;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;

use super::{format::Format, load, print};
use crate::{
    config::Config,
    diagnostics::{MOST_SHOWN, Problem, Problems, Source},
    identity::Facts,
    oci::Name,
    policy::{self, FirstSeen, Now, Policy, Request},
    snapshot::policy_files,
    telemetry::counted,
    tls::read_certificate,
    upstream::Base,
};

/// The commands about policies.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check policies: syntax, names, kinds of values, rules without effect, limits, tests
    Check {
        /// Policy files, checked alone; without any: those of the configuration and of its `policy_dir`
        files: Vec<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
    /// Run the tests in policy files, each against its own file alone and against all policies together
    Test {
        /// Policy files; without any: those of the configuration's `policy_dir`
        files: Vec<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
    /// Decide one request, and show what each rule says about it; or, with --retention, which images of a repository stay
    Explain(Box<Explain>),
    /// Decide recorded requests again, and show what would change
    Replay {
        /// The record of decisions, one JSON object a line; `-` for standard input
        #[arg(long, value_name = "FILE")]
        log: PathBuf,
        #[command(flatten)]
        output: Output,
    },
}

/// The form of the outcome.
#[derive(Debug, Args)]
pub(super) struct Output {
    /// The form of the output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// The request to explain.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The client: `anonymous`, the username of an `[identity]`, a certificate (PEM file), or an identity as JSON
    #[arg(long = "as", value_name = "WHO", default_value = "anonymous")]
    who: String,
    /// The action, such as `get-manifest`
    #[arg(long, required_unless_present_any = ["retention", "repository"], default_value = "")]
    action: String,
    /// Show for each tag of `--repository`, as it is in the store now, which rule keeps it, or that none does
    #[arg(long, requires = "repository", conflicts_with_all = ["who", "action", "namespace", "reference", "tag", "digest", "from", "upload_owner", "client_ip", "listener", "upstream", "first_seen_at", "now"])]
    retention: bool,
    /// The repository whose images are judged
    #[arg(long, value_name = "NAME")]
    repository: Option<Name>,
    /// The repository
    #[arg(long, default_value = "")]
    namespace: String,
    /// The tag or digest
    #[arg(long, default_value = "")]
    reference: String,
    /// A tag that a push sets beside its reference, or that a delete by digest would take along; repeatable
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// The digest of a blob
    #[arg(long, default_value = "")]
    digest: String,
    /// The repository that a blob is to be mounted from
    #[arg(long, default_value = "")]
    from: String,
    /// The identity that began the upload: a username, or `certificate:` with issuer and subject
    #[arg(long, default_value = "")]
    upload_owner: String,
    /// The address of the client
    #[arg(long, value_name = "ADDRESS")]
    client_ip: Option<IpAddr>,
    /// The host of the first upstream of the repository; without it, the configuration's
    #[arg(long, value_name = "HOST")]
    upstream: Option<String>,
    /// The time at which the cache first saw the image, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    first_seen_at: Option<Timestamp>,
    /// The time of the request; without it, the present
    #[arg(long, value_name = "TIME")]
    now: Option<Timestamp>,
    /// The address that the request comes to
    #[arg(long, default_value = "main")]
    listener: String,
    #[command(flatten)]
    output: Output,
}

/// Does what the command says; its exit code.
pub(super) fn run(command: &Command, configs: &[PathBuf]) -> ExitCode {
    let outcome = match command {
        Command::Check { files, .. } | Command::Test { files, .. } if !files.is_empty() && !configs.is_empty() => {
            let says =
                "-c belongs to the check without files; named files are checked alone, so leave out -c or the files";
            Err(Wrong::Usage(says.to_owned()))
        }
        Command::Check { files, output } => check(files, configs, output.format),
        Command::Test { files, output } => test(files, configs, output.format),
        Command::Explain(explain) => self::explain(explain, configs),
        Command::Replay { log, output } => policies(configs).and_then(|(_, policy)| {
            let replay = replay::Replay::read(log, &policy).map_err(Wrong::Sentence)?;
            match output.format {
                Format::Text => print::text(&replay),
                Format::Json => print::json(&replay),
            }
            Ok(ExitCode::from(if replay.changes_nothing() { 0 } else { 3 }))
        }),
    };
    outcome.unwrap_or_else(|wrong| {
        wrong.tell(command.format());
        if matches!(wrong, Wrong::Usage(_)) { ExitCode::from(2) } else { ExitCode::FAILURE }
    })
}

impl Command {
    const fn format(&self) -> Format {
        match self {
            Self::Check { output, .. } | Self::Test { output, .. } | Self::Replay { output, .. } => output.format,
            Self::Explain(explain) => explain.output.format,
        }
    }
}

/// The reason why a command could not do its work.
enum Wrong {
    Policies(Problems),
    Sentence(String),
    /// Options that do not go together.
    Usage(String),
}

impl From<Problems> for Wrong {
    fn from(problems: Problems) -> Self {
        Self::Policies(problems)
    }
}

impl Wrong {
    fn tell(&self, format: Format) {
        let problems = match self {
            Self::Sentence(sentence) => {
                print::error(sentence.trim_end());
                return;
            }
            Self::Usage(says) => {
                print::error_line(format_args!("error: {says}"));
                return;
            }
            Self::Policies(problems) => problems,
        };
        if format == Format::Json {
            let problems: Vec<_> = problems.iter().map(as_json).collect();
            return print::json(&json!({ "valid": false, "problems": problems }));
        }
        for problem in problems.iter().take(MOST_SHOWN) {
            print::error(format_args!("{problem}\n"));
        }
        print::error(counted(problems.iter().count() as u64, "problem"));
    }
}

fn as_json(problem: &Problem) -> serde_json::Value {
    let place = problem.place.as_ref();
    json!({
        "file": place.map(|place| &place.file),
        "line": place.map(|place| place.line),
        "column": place.map(|place| place.column),
        "error": problem.says,
        "help": problem.help,
    })
}

/// Reads the named files, or else the files of the directory of policies.
fn files(paths: &[PathBuf], config: &Config) -> Result<Vec<Source>, Wrong> {
    if paths.is_empty() {
        return Ok(policy_files(config)?);
    }
    let (mut files, mut problems) = (Vec::new(), Problems::default());
    for path in paths {
        match policy::read_file(path) {
            Ok(file) => files.push(file),
            Err(error) => problems.extend(error),
        }
    }
    Ok(problems.or(files)?)
}

/// Builds the policies that a server with this configuration would start with.
fn policies(configs: &[PathBuf]) -> Result<(Config, Policy), Wrong> {
    let config = load(configs)?;
    let policy = Policy::build(&config, &files(&[], &config)?)?;
    Ok((config, policy))
}

fn check(paths: &[PathBuf], configs: &[PathBuf], format: Format) -> Result<ExitCode, Wrong> {
    let config = if paths.is_empty() { load(configs)? } else { Config::default() };
    let files = files(paths, &config)?;
    let policy = Policy::build(&config, &files)?;
    match format {
        Format::Json => {
            print::json(&json!({ "valid": true, "problems": [], "files": files.len(), "warnings": policy.warnings() }));
        }
        Format::Text => {
            for warning in policy.warnings() {
                print::error_line(format_args!("warning: {warning}"));
            }
            let beside = if paths.is_empty() { " and the tables of the configuration" } else { "" };
            print::line(format_args!("{}{beside}: all is well", counted(files.len() as u64, "policy file")));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn test(paths: &[PathBuf], configs: &[PathBuf], format: Format) -> Result<ExitCode, Wrong> {
    let config = if paths.is_empty() { load(configs)? } else { Config::default() };
    let policy::TestRun { outcomes, warnings } = policy::run_tests(&config, &files(paths, &config)?)?;
    let failed: Vec<&Problem> = outcomes.iter().filter_map(|test| test.failure.as_ref()).collect();
    match format {
        Format::Json => {
            let tests = outcomes.iter().map(|test| {
                json!({ "file": test.file, "test": test.name, "passed": test.failure.is_none(), "problem": test.failure.as_ref().map(as_json) })
            });
            let tests: Vec<_> = tests.collect();
            let passed = outcomes.len() - failed.len();
            print::json(&json!({ "passed": passed, "failed": failed.len(), "tests": tests, "warnings": warnings }));
        }
        Format::Text => {
            for problem in failed.iter().take(MOST_SHOWN) {
                print::error(format_args!("{problem}\n"));
            }
            for warning in &warnings {
                print::error_line(format_args!("warning: {warning}"));
            }
            let passed = counted((outcomes.len() - failed.len()) as u64, "test");
            print::line(format_args!("{passed} passed, {} failed", failed.len()));
        }
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn explain(asked: &Explain, configs: &[PathBuf]) -> Result<ExitCode, Wrong> {
    if asked.repository.is_some() && !asked.retention {
        // clap asks for an option only as long as nothing else is given that excludes it
        let says = "--repository needs --retention; the repository of a request is --namespace";
        return Err(Wrong::Usage(says.to_owned()));
    }
    let (config, policy) = policies(configs)?;
    if let Some(repository) = &asked.repository {
        return explain_retention::run(&config, &policy, repository, asked.output.format);
    }
    let request = Request {
        action: asked.action.clone(),
        namespace: asked.namespace.clone(),
        reference: asked.reference.clone(),
        tags: asked.tag.clone(),
        digest: asked.digest.clone(),
        from: asked.from.clone(),
        upload_owner: asked.upload_owner.clone(),
        listener: asked.listener.clone(),
        upstream: asked.upstream.clone().unwrap_or_else(|| first_upstream(&config, &asked.namespace)),
        ..Request::default()
    };
    let request = request.completed();
    if let Some((says, help)) = policy::faults(&request).into_iter().next() {
        let (says, help) = (print::one_line(&says), print::one_line(&help));
        return Err(Wrong::Sentence(format!("error: {says}\nhelp: {help}")));
    }
    let unknown = |why| Wrong::Sentence(print::one_line(&format!("error: --as {}: {why}", asked.who)));
    let mut facts = who(&asked.who, &config).map_err(unknown)?;
    if let Some(address) = asked.client_ip {
        facts.client_ip = address.to_string();
    }
    let now = asked.now.map_or_else(Now::default, Now::at);
    let first_seen = asked.first_seen_at.map(FirstSeen::At);
    if first_seen.is_some() && !request.is_of_cached_image() {
        let says = "--first-seen-at belongs to get-manifest of a cache; name its upstream with --upstream";
        return Err(Wrong::Usage(says.to_owned()));
    }
    let explanation = policy.explain(&facts, &request, request.times(&now, first_seen));
    let repository = &request.namespace;
    match asked.output.format {
        Format::Text if repository.is_empty() => print::text(explanation),
        Format::Text => print::text(format_args!("{explanation}\n{}", tables::text(&config, repository))),
        Format::Json => {
            let mut explained = json!(explanation);
            if !repository.is_empty() {
                explained["tables"] = tables::json(&config, repository);
            }
            print::json(&explained);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the host of the first upstream that the configuration gives to a repository.
fn first_upstream(config: &Config, repository: &str) -> String {
    let upstreams = config.stated(repository, |table| table.upstream.as_ref());
    let first = upstreams.and_then(|(_, upstreams)| upstreams.first());
    let base = first.and_then(|first| Base::parse(first.url.as_str()).ok());
    base.map(|base| base.host().to_owned()).unwrap_or_default()
}

/// Returns the facts that `--as` stands for.
fn who(who: &str, config: &Config) -> Result<Facts, String> {
    if who == "anonymous" {
        return Ok(Facts::default());
    }
    if who.trim_start().starts_with('{') {
        return serde_json::from_str(who).map_err(|error| format!("this is no identity as JSON: {error}"));
    }
    if let Some((id, identity)) = config.identity.iter().find(|(_, identity)| identity.username == who) {
        let (id, username, groups) = (id.clone(), identity.username.clone(), identity.groups.clone());
        return Ok(Facts { id, username, groups, ..Facts::default() });
    }
    let path = Path::new(who);
    if path.is_file() {
        return Ok(Facts { certificate: read_certificate(path)?, ..Facts::default() });
    }
    Err("no [identity] of the configuration has this username, and there is no such certificate file; write `anonymous`, a \
         username, a file, or JSON such as '{\"username\": \"ana\", \"groups\": [\"staff\"]}'"
        .to_owned())
}
