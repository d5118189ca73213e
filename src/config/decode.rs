//! Every table and key of the configuration: its name, its default and its limits, each written once, here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use secrecy::SecretString;

use super::document::{self, Entries};
use super::model::{
    AccessPolicy, Audit, AuditFile, FsStorage, Health, Listen, LogFormat, LogOutput, Logs, Metrics, Observability,
    OnAuditError, Repository, S3Storage, Scrub, Server, Storage, Token, Tracing, VerifyPulls,
};
use super::section::{Place, Reading, Section};
use super::{Config, KeyFacts, Source, rule};

/// Reads the whole tree.
pub(super) fn config(reading: &Reading<'_>, entries: &Entries) -> Config {
    let mut root = Section::root(reading, entries);
    let config = Config {
        max_concurrent_requests: root.key("max_concurrent_requests", "50", &rule::integer(1..=1_000_000)),
        max_concurrent_transfers: root.key("max_concurrent_transfers", "1000", &rule::integer(1..=1_000_000)),
        max_manifest_size: root.key("max_manifest_size", "\"4MiB\"", &rule::size("1KiB", "64MiB")),
        max_blob_size: root.key("max_blob_size", "\"100GiB\"", &rule::size("1KiB", "1024TiB")),
        allow_missing_references: root.key("allow_missing_references", "false", &rule::flag()),
        cache_ttl: root.key("cache_ttl", "\"2s\"", &rule::time("0s", "1h")),
        verify_pulls: root.key("verify_pulls", "\"none\"", &verify_pulls()),
        server: server(&mut root),
        storage: storage(reading, &mut root),
        policy_dir: None,
        access_policy: access_policy(&mut root),
        repository: repositories(reading, &mut root),
        identity: BTreeMap::new(),
        token: Token { realm: None, signing_key: "token.key".into(), ttl: Duration::from_mins(5) },
        audit: Audit {
            file: AuditFile::Off,
            max_size: 100 << 20,
            max_age: Duration::ZERO,
            keep: 0,
            on_error: OnAuditError::Deny,
        },
        observability: observability(&mut root),
        scrub: scrub(&mut root),
    };
    if reading.whole {
        check_addresses(reading, &config, entries);
    }
    root.finish();
    config
}

fn verify_pulls() -> rule::Rule<VerifyPulls> {
    let n = rule::integer(1..=u32::MAX);
    rule::word_or(
        &[("none", VerifyPulls::None), ("all", VerifyPulls::All)],
        "an integer from 1 to 4294967295",
        move |value| (n.read)(value).ok().map(VerifyPulls::OneIn),
    )
}

fn server(root: &mut Section<'_>) -> Server {
    let mut table = root.table("server");
    let address = rule::parsed("an IP address such as \"127.0.0.1\" or \"::\"");
    let server = Server {
        bind_address: table.key("bind_address", "\"127.0.0.1\"", &address),
        port: table.key("port", "5000", &rule::integer(0..=u16::MAX)),
        query_timeout: table.key("query_timeout", "60", &rule::time("1s", "1d")),
        query_timeout_grace_period: table.key("query_timeout_grace_period", "30", &rule::time("0s", "1d")),
        streaming_chunk_size: table.key("streaming_chunk_size", "\"512KiB\"", &rule::size("4KiB", "64MiB")),
        trusted_proxies: Vec::new(),
        tls: None,
    };
    table.finish();
    server
}

fn storage(reading: &Reading<'_>, root: &mut Section<'_>) -> Storage {
    let mut table = root.table("storage");
    let fs = fs_storage(&mut table);
    let s3 = s3_storage(&mut table);
    let (on_fs, on_s3) = (table.entry("fs"), table.entry("s3"));
    if let (Some(on_fs), Some(on_s3)) = (on_fs, on_s3) {
        let fs_is_later = (on_fs.source, on_fs.key.start) > (on_s3.source, on_s3.key.start);
        let (later, earlier) = if fs_is_later { (on_fs, on_s3) } else { (on_s3, on_fs) };
        let (this, other) = if fs_is_later { ("fs", "s3") } else { ("s3", "fs") };
        let first = reading.whereabouts(earlier);
        let says = format!("`storage.{this}` is given beside `storage.{other}` ({first}): there is one storage");
        let help = "remove one of the two tables".to_owned();
        reading.refuse(later, Place::Key, says, help);
    }
    table.finish();
    if on_s3.is_some() { Storage::S3(s3) } else { Storage::Fs(fs) }
}

fn fs_storage(storage: &mut Section<'_>) -> FsStorage {
    let mut table = storage.table("fs");
    let path = rule::text("the path of a directory", directory);
    let fs = FsStorage {
        root_dir: table.key("root_dir", "\"./data\"", &path),
        durable: table.key("durable", "true", &rule::flag()),
    };
    table.finish();
    fs
}

fn s3_storage(storage: &mut Section<'_>) -> S3Storage {
    let mut table = storage.table("s3");
    let word = |expects: &str| rule::text(expects, |text| one_word(text).then(|| text.to_owned()));
    let s3 = S3Storage {
        access_key_id: table.required("access_key_id", "\"<id>\"", &word("text without spaces")),
        secret_key: table.required("secret_key", "\"<secret>\"", &word("text without spaces").map(SecretString::from)),
        endpoint: table.required("endpoint", "\"http://127.0.0.1:9000\"", &rule::url("http://127.0.0.1:9000")),
        bucket: table.required("bucket", "\"registry\"", &rule::text("the name of a bucket", bucket)),
        region: table.key("region", "\"us-east-1\"", &word("the name of a region")),
        key_prefix: table.key(
            "key_prefix",
            "\"\"",
            &rule::text("text such as \"registry\" or \"team/registry\"", key_prefix),
        ),
        multipart_min_part_size: table
            .key("multipart_min_part_size", "\"5MB\"", &rule::size("5MB", "5GiB"))
            .max(S3Storage::SMALLEST_PART),
    };
    table.finish();
    s3
}

fn access_policy(parent: &mut Section<'_>) -> AccessPolicy {
    let mut table = parent.table("access_policy");
    let policy = AccessPolicy {
        default_allow: table.optional("default_allow", "true", &rule::flag()),
        rules: table.key("rules", "[]", &rule::no_rules()),
    };
    table.finish();
    policy
}

fn repositories(reading: &Reading<'_>, root: &mut Section<'_>) -> BTreeMap<String, Repository> {
    let all = root.table("repository");
    let mut repositories = BTreeMap::new();
    for (name, mut table) in all.tables() {
        if let (Some(node), Err(rule)) = (table.node(), repository_name(name)) {
            let says = format!("`{}` is not a namespace: {rule}", join(["repository", name.as_str()]));
            let help = "write `[repository.\"team/app\"]`, or `[repository.\"*\"]` for every repository that no other table covers";
            reading.refuse(node, Place::Key, says, help.to_owned());
        }
        let access_policy = access_policy(&mut table);
        table.finish();
        repositories.insert(name.clone(), Repository { access_policy });
    }
    repositories
}

fn observability(root: &mut Section<'_>) -> Observability {
    let mut table = root.table("observability");
    let observability = Observability {
        tracing: tracing(&mut table),
        logs: logs(&mut table),
        metrics: Metrics { listen: listen(&mut table, "metrics") },
        health: Health { listen: listen(&mut table, "health") },
    };
    table.finish();
    observability
}

fn tracing(observability: &mut Section<'_>) -> Tracing {
    let mut table = observability.table("tracing");
    let tracing = Tracing {
        endpoint: table.optional("endpoint", "\"http://127.0.0.1:4318\"", &rule::url("http://127.0.0.1:4318")),
        sampling_rate: table.key("sampling_rate", "1.0", &rule::share()),
    };
    table.finish();
    tracing
}

fn logs(observability: &mut Section<'_>) -> Logs {
    const FORMATS: &[(&str, LogFormat)] =
        &[("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    let mut table = observability.table("logs");
    let output = rule::text("\"stderr\", \"stdout\", or the path of a file", |text| match text {
        "stderr" => Some(LogOutput::Stderr),
        "stdout" => Some(LogOutput::Stdout),
        path => directory(path).map(LogOutput::File),
    });
    let level =
        "a level (off, error, warn, info, debug, trace), alone or after `target=`, or several with commas between";
    let logs = Logs {
        output: table.key("output", "\"stderr\"", &output),
        format: table.key("format", "\"auto\"", &rule::word(FORMATS)),
        level: table.key("level", "\"info\"", &rule::text(level, levels)),
        requests: table.key("requests", "true", &rule::flag()),
    };
    table.finish();
    logs
}

fn listen(observability: &mut Section<'_>, name: &'static str) -> Listen {
    let mut table = observability.table(name);
    let address = |value: &document::Value| match value {
        document::Value::Text(text) => text.parse().ok().map(Listen::Address),
        _ => None,
    };
    let words = &[("main", Listen::Main), ("off", Listen::Off)];
    let rule = rule::word_or(words, "an address and port such as \"127.0.0.1:9090\"", address);
    let listen = table.key("listen", "\"main\"", &rule);
    table.finish();
    listen
}

fn scrub(root: &mut Section<'_>) -> Scrub {
    let mut table = root.table("scrub");
    let scrub = Scrub { upload_expiry: table.key("upload_expiry", "\"1 day\"", &rule::time("1s", "3650d")) };
    table.finish();
    scrub
}

/// Two listeners cannot have one address.
fn check_addresses(reading: &Reading<'_>, config: &Config, entries: &Entries) {
    let main = (config.server.bind_address, config.server.port);
    let others = [("metrics", &config.observability.metrics.listen), ("health", &config.observability.health.listen)];
    for (name, listen) in others {
        let Listen::Address(address) = listen else { continue };
        let same_host = address.ip() == main.0 || address.ip().is_unspecified() || main.0.is_unspecified();
        let path = ["observability", name, "listen"].map(str::to_owned);
        if let Some(node) = document::find(entries, &path)
            && same_host
            && address.port() == main.1
            && main.1 != 0
        {
            let says = format!(
                "`{}` is the address that the registry itself is served at (`server.bind_address` {}, `server.port` {})",
                path.join("."),
                main.0,
                main.1
            );
            reading.refuse(node, Place::Value, says, "take another port, or write `listen = \"main\"`".to_owned());
        }
    }
}

/// A path that is one: not empty, and without the one character that no path has.
fn directory(text: &str) -> Option<PathBuf> {
    (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text))
}

fn one_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn bucket(text: &str) -> Option<String> {
    (one_word(text) && !text.contains('/') && text.len() <= 255).then(|| text.to_owned())
}

/// A path of segments; the slash at its end may be written or not.
fn key_prefix(text: &str) -> Option<String> {
    let prefix = text.strip_suffix('/').unwrap_or(text);
    let is_segment = |part: &str| one_word(part) && !matches!(part, "." | "..");
    (text.is_empty() || prefix.split('/').all(is_segment) && prefix.len() <= 255).then(|| prefix.to_owned())
}

/// A list of levels, each for all that is logged or for one target.
fn levels(text: &str) -> Option<String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_target = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-' | '.');
    let valid = text.split(',').all(|directive| match directive.split_once('=') {
        None => LEVELS.contains(&directive),
        Some((target, level)) => LEVELS.contains(&level) && !target.is_empty() && target.chars().all(is_target),
    });
    valid.then(|| text.to_owned())
}

/// Checks the key of a `[repository."..."]` table; the error is the rule that it breaks.
///
/// Names are as in the OCI Distribution Specification, "Pulling manifests": parts of lower-case letters and digits, with
/// `.`, `_`, `__` or any number of `-` between, and slashes between the parts.
fn repository_name(name: &str) -> Result<(), &'static str> {
    if name == "*" {
        return Ok(());
    }
    if name.is_empty() || name.len() > 255 {
        return Err("it has 1 to 255 characters");
    }
    if name.split('/').any(str::is_empty) {
        return Err("no slash begins or ends it, and no two stand together");
    }
    if !name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-' | '/')) {
        return Err("it consists of lower-case letters, digits, `.`, `_`, `-` and `/`");
    }
    let is_separator = |c: char| matches!(c, '.' | '_' | '-');
    for part in name.split('/') {
        if part.starts_with(is_separator) || part.ends_with(is_separator) {
            return Err("each of its parts begins and ends with a letter or digit");
        }
        let separators = part.split(|c| !is_separator(c)).filter(|run| !run.is_empty());
        for run in separators {
            if !matches!(run, "." | "_" | "__") && run.chars().any(|c| c != '-') {
                return Err("between letters and digits stand `.`, `_`, `__` or any number of `-`");
            }
        }
    }
    Ok(())
}

/// All keys, found by reading a configuration that has each table.
pub(super) static KEYS: LazyLock<Vec<KeyFacts>> = LazyLock::new(|| {
    let text = "storage.s3 = {}\nrepository.namespace = {}".to_owned();
    let sources = [Source { name: String::new(), text }];
    let entries = document::parse(0, &sources[0]).unwrap_or_default();
    let reading = Reading::new(&[], false);
    config(&reading, &entries);
    let keys = reading.finish().unwrap_or_default().into_iter();
    keys.map(|key| KeyFacts { path: key.path.replace("repository.namespace", ANY_REPOSITORY), ..key }).collect()
});

/// How the free key of `[repository."..."]` is written in the path of a key.
const ANY_REPOSITORY: &str = "repository.\"<namespace>\"";

/// The parts of all paths. A namespace is no key.
fn paths() -> impl Iterator<Item = Vec<&'static str>> {
    KEYS.iter().map(|key| key.path.split('.').collect())
}

/// Whether some table has a key, or is a table, of this name.
pub(super) fn is_key(name: &str) -> bool {
    paths().any(|path| path.contains(&name))
}

/// Whether there is such a key or table.
pub(super) fn is_path(path: &str) -> bool {
    KEYS.iter().any(|key| key.path == path || key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// The names of the keys and tables in a table.
pub(super) fn children(table: &[String]) -> Vec<String> {
    let matches = |part: &str, name: &str| part == name || part.starts_with('"');
    let mut names: Vec<String> = paths()
        .filter(|path| path.len() > table.len() && path.iter().zip(table).all(|(part, name)| matches(part, name)))
        .map(|path| path[table.len()].to_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The tables, as they are shown, that have a key of this name.
pub(super) fn tables_with(key: &str) -> Vec<String> {
    let owners = paths().filter(|path| path.last() == Some(&key));
    owners
        .map(|path| match &path[..path.len() - 1] {
            [] => "the top of the file, before the first table".to_owned(),
            table => format!("`[{}]`", table.join(".")),
        })
        .collect()
}

/// A path as it is written in a file: parts that are no bare keys are quoted.
pub(super) fn join<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let quote = |part: &str| match part {
        bare if !bare.is_empty() && bare.chars().all(is_bare) => bare.to_owned(),
        part => format!("{part:?}"),
    };
    parts.into_iter().map(quote).collect::<Vec<_>>().join(".")
}
