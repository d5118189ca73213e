//! Every table and key of the configuration: its name, its default and its limits, each written once, here.

use std::net::IpAddr;

use ipnet::IpNet;
use secrecy::SecretString;

use super::model::{
    AuditFile, ClientAuth, FsStorage, Health, Listen, LogFormat, LogOutput, Logs, Metrics, Observability, PolicyDir,
    S3Storage, Scrub, Server, Storage, TagHistory, Tls, Tracing, Untagged, VerifyPulls,
};
use super::{
    access, mirrors,
    model::Config,
    paths::{bucket, host, key_prefix, levels, one_word, path, written},
};
use crate::diagnostics::{Entries, Part, Reading, Table, find, rule};

/// Reads the whole tree.
pub(super) fn config(reading: &Reading<'_>, entries: &Entries) -> Config {
    let mut root = Table::root(reading, entries);
    let config = Config {
        max_concurrent_requests: root.key("max_concurrent_requests", "50", &rule::integer(1..=1_000_000)),
        max_concurrent_transfers: root.key("max_concurrent_transfers", "1000", &rule::integer(1..=1_000_000)),
        max_uploads_per_address: root.key("max_uploads_per_address", "200", &rule::integer(1..=1_000_000)),
        max_uploads_per_identity: root.key("max_uploads_per_identity", "5000", &rule::integer(1..=1_000_000)),
        max_uploads_per_repository: root.key("max_uploads_per_repository", "10000", &rule::integer(1..=1_000_000)),
        min_transfer_rate: root.key("min_transfer_rate", "\"1KiB\"", &rule::size("0", "1GiB")),
        cache_size: root.key("cache_size", "\"64MiB\"", &rule::size("1MiB", "1TiB")),
        document_memory: root.key("document_memory", "\"64MiB\"", &rule::size("1MiB", "1TiB")),
        max_manifest_size: root.key("max_manifest_size", "\"4MiB\"", &rule::size("1KiB", "64MiB")),
        max_blob_size: root.key("max_blob_size", "\"100GiB\"", &rule::size("1KiB", "1024TiB")),
        allow_missing_references: root.key("allow_missing_references", "false", &rule::flag()),
        cache_ttl: root.key("cache_ttl", "\"2s\"", &rule::time("0s", "1h")),
        verify_pulls: root.key("verify_pulls", "\"none\"", &verify_pulls()),
        server: server(reading, &mut root),
        storage: storage(reading, &mut root),
        mirror_of: root.optional(
            "mirror_of",
            "\"hub\"",
            &rule::text("the namespace of a table", |text| Some(text.to_owned())),
        ),
        policy_dir: Some(policy_dir(&mut root)),
        access_policy: access::access_policy(&mut root),
        repository: access::repositories(reading, &mut root),
        identity: access::identities(reading, &mut root),
        token: access::token(&mut root),
        audit: access::audit(&mut root),
        observability: observability(&mut root),
        scrub: scrub(&mut root),
    };
    if reading.whole {
        check_addresses(reading, &config, entries);
        mirrors::check(reading, &config, entries);
    }
    root.finish();
    config
}

fn verify_pulls() -> rule::Rule<VerifyPulls> {
    let words = &[("none", VerifyPulls::None), ("all", VerifyPulls::All)];
    rule::word_or(words, rule::integer(1..=u32::MAX).map(VerifyPulls::OneIn))
}

fn policy_dir(root: &mut Table<'_>) -> PolicyDir {
    let path = root.key("policy_dir", "\"policies\"", &rule::text("the path of a directory", path));
    PolicyDir { path: root.beside_file("policy_dir", path), must_exist: root.entry("policy_dir").is_some() }
}

fn server(reading: &Reading<'_>, root: &mut Table<'_>) -> Server {
    let mut table = root.table("server");
    let address = rule::parsed("an IP address such as \"127.0.0.1\" or \"::\"");
    let address = address.matching("^([0-9.]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)$");
    let server = Server {
        bind_address: table.key("bind_address", "\"127.0.0.1\"", &address),
        port: table.key("port", "5000", &rule::integer(0..=u16::MAX)),
        query_timeout: table.key("query_timeout", "60", &rule::time("1s", "1d")),
        query_timeout_grace_period: table.key("query_timeout_grace_period", "30", &rule::time("0s", "1d")),
        streaming_chunk_size: table.key("streaming_chunk_size", "\"512KiB\"", &rule::size("4KiB", "64MiB")),
        trusted_proxies: table.key("trusted_proxies", "[]", &proxies()),
        hosts: table.key("hosts", "[]", &hosts()),
        tls: tls(reading, &mut table),
    };
    table.finish();
    server
}

fn proxies() -> rule::Rule<Vec<IpNet>> {
    let one = rule::checked_text("an address or network such as \"10.1.2.3\" or \"10.0.0.0/8\"", |text| {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(address.into());
        }
        let net: IpNet = text.parse().map_err(|_| {
            let says = "must be an address or network such as \"10.1.2.3\" or \"10.0.0.0/8\"".to_owned();
            (says, "write addresses, not names".to_owned())
        })?;
        let whole = net.trunc();
        if net == whole {
            return Ok(net);
        }
        let says = format!("is an address inside of the network {whole}");
        Err((says, format!("write \"{}\" for the one, \"{whole}\" for the whole", net.addr())))
    });
    rule::list("a list of up to 1000 addresses and networks such as \"10.0.0.0/8\"", 1000, one)
}

fn hosts() -> rule::Rule<Vec<String>> {
    let one =
        rule::text("a host name such as \"registry.lan\", without a port", |text| host(text).then(|| text.to_owned()));
    rule::list("a list of up to 1000 host names such as \"registry.lan\"", 1000, one)
}

fn tls(reading: &Reading<'_>, server: &mut Table<'_>) -> Option<Tls> {
    const CLIENT_AUTH: &[(&str, ClientAuth)] =
        &[("optional", ClientAuth::Optional), ("required", ClientAuth::Required)];
    let mut table = server.table("tls");
    let file = || rule::text("the path of a file", path);
    let mut required = |key: &str, example: &str| {
        let path = table.required(key, example, &file());
        table.beside_file(key, path)
    };
    let server_certificate_bundle = required("server_certificate_bundle", "\"server.crt\"");
    let server_private_key = required("server_private_key", "\"server.key\"");
    let client_ca_bundle = table.optional("client_ca_bundle", "\"client-ca.crt\"", &file());
    let client_ca_bundle = client_ca_bundle.map(|path| table.beside_file("client_ca_bundle", path));
    let client_auth = table.key("client_auth", "\"optional\"", &rule::word(CLIENT_AUTH));
    let client_crl = table.optional("client_crl", "\"client-ca.crl\"", &file());
    let client_crl = client_crl.map(|path| table.beside_file("client_crl", path));
    let tls = Tls { server_certificate_bundle, server_private_key, client_ca_bundle, client_auth, client_crl };
    // Certificates that nobody is asked for protect nothing, whatever these two say about them.
    let needs_authorities = [("client_auth", tls.client_auth == ClientAuth::Required), ("client_crl", true)];
    for (key, needs) in needs_authorities {
        if let (Some(node), true, None, true) =
            (table.entry(key), needs, table.entry("client_ca_bundle"), reading.whole)
        {
            let says = format!(
                "`server.tls.{key}` is given without `server.tls.client_ca_bundle`: no certificate would be asked for"
            );
            let help = "add `client_ca_bundle`, the authorities whose client certificates are accepted".to_owned();
            reading.refuse(node, Part::Value, says, help);
        }
    }
    let is_given = table.node().is_some();
    table.finish();
    is_given.then_some(tls)
}

fn storage(reading: &Reading<'_>, root: &mut Table<'_>) -> Storage {
    let mut table = root.table("storage");
    let fs = fs_storage(&mut table);
    let s3 = s3_storage(&mut table);
    let (on_fs, on_s3) = (table.entry("fs"), table.entry("s3"));
    if let (Some(on_fs), Some(on_s3)) = (on_fs, on_s3) {
        let fs_is_later = on_fs.place() > on_s3.place();
        let (later, earlier) = if fs_is_later { (on_fs, on_s3) } else { (on_s3, on_fs) };
        let (this, other) = if fs_is_later { ("fs", "s3") } else { ("s3", "fs") };
        let first = reading.whereabouts(earlier);
        let says = format!("`storage.{this}` is given beside `storage.{other}` ({first}): there is one storage");
        let help = "remove one of the two tables".to_owned();
        reading.refuse(later, Part::Key, says, help);
    }
    table.finish();
    if on_s3.is_some() { Storage::S3(s3) } else { Storage::Fs(fs) }
}

/// The permission bits that a store may have: the group or everybody may read it, or the group may write it.
const MODES: &[(&str, u32)] = &[("0700", 0o700), ("0750", 0o750), ("0770", 0o770), ("0755", 0o755)];

fn fs_storage(storage: &mut Table<'_>) -> FsStorage {
    let mut table = storage.table("fs");
    let path = rule::text("the path of a directory", path);
    let fs = FsStorage {
        root_dir: written(table.key("root_dir", "\"./data\"", &path)),
        durable: table.key("durable", "true", &rule::flag()),
        mode: table.key("mode", "\"0700\"", &rule::word(MODES)),
    };
    table.finish();
    fs
}

fn s3_storage(storage: &mut Table<'_>) -> S3Storage {
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

fn observability(root: &mut Table<'_>) -> Observability {
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

fn tracing(observability: &mut Table<'_>) -> Tracing {
    let mut table = observability.table("tracing");
    let tracing = Tracing {
        endpoint: table.optional("endpoint", "\"http://127.0.0.1:4318\"", &rule::url("http://127.0.0.1:4318")),
        sampling_rate: table.key("sampling_rate", "1.0", &rule::share()),
    };
    table.finish();
    tracing
}

/// The levels of the log, as a pattern.
const LEVELS: &str = "^(([^,=]+=)?(off|error|warn|info|debug|trace))(,([^,=]+=)?(off|error|warn|info|debug|trace))*$";

fn logs(observability: &mut Table<'_>) -> Logs {
    const FORMATS: &[(&str, LogFormat)] =
        &[("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    let mut table = observability.table("logs");
    let output = rule::text("\"stderr\", \"stdout\", or the path of a file", |text| match text {
        "stderr" => Some(LogOutput::Stderr),
        "stdout" => Some(LogOutput::Stdout),
        text => path(text).map(written).map(LogOutput::File),
    });
    let level =
        "a level (off, error, warn, info, debug, trace), alone or after `target=`, or several with commas between";
    let logs = Logs {
        output: table.key("output", "\"stderr\"", &output),
        format: table.key("format", "\"auto\"", &rule::word(FORMATS)),
        level: table.key("level", "\"info\"", &rule::text(level, levels).matching(LEVELS)),
        requests: table.key("requests", "true", &rule::flag()),
    };
    table.finish();
    logs
}

fn listen(observability: &mut Table<'_>, name: &'static str) -> Listen {
    let mut table = observability.table(name);
    let address =
        rule::text("an address and port such as \"127.0.0.1:9090\"", |text| text.parse().ok().map(Listen::Address));
    let words = &[("main", Listen::Main), ("off", Listen::Off)];
    let rule = rule::word_or(words, address.matching("^([0-9.]+|\\[[0-9A-Fa-f:.]+(%[0-9]+)?\\]):[0-9]+$"));
    let listen = table.key("listen", "\"main\"", &rule);
    table.finish();
    listen
}

fn scrub(root: &mut Table<'_>) -> Scrub {
    const UNTAGGED: &[(&str, Untagged)] = &[("keep", Untagged::Keep), ("delete", Untagged::Delete)];
    let mut table = root.table("scrub");
    let record = rule::text("\"off\", \"stdout\", or the path of a file", |text| match text {
        "off" => Some(AuditFile::Off),
        "stdout" => Some(AuditFile::Stdout),
        text => path(text).map(written).map(AuditFile::File),
    });
    let scrub = Scrub {
        upload_expiry: table.key("upload_expiry", "\"1 day\"", &rule::time("1s", "3650d")),
        grace: table.key("grace", "\"1h\"", &rule::time("0s", "3650d")),
        trash: table.key("trash", "\"7d\"", &rule::time("0s", "3650d")),
        untagged: table.key("untagged", "\"keep\"", &rule::word(UNTAGGED)),
        untagged_grace: table.key("untagged_grace", "\"1 day\"", &rule::time("0s", "3650d")),
        tag_history: tag_history(&mut table),
        interval: table.optional("interval", "\"1 day\"", &rule::time("1s", "3650d")),
        record: table.optional("record", "\"deletions.jsonl\"", &record),
    };
    table.finish();
    scrub
}

fn tag_history(scrub: &mut Table<'_>) -> TagHistory {
    let mut table = scrub.table("tag_history");
    let history = TagHistory {
        age: table.key("age", "\"90d\"", &rule::time("0s", "3650d")),
        count: table.key("count", "1000", &rule::integer(1..=100_000)),
    };
    table.finish();
    history
}

/// Checks that no two listeners have one address.
fn check_addresses(reading: &Reading<'_>, config: &Config, entries: &Entries) {
    let main = (config.server.bind_address, config.server.port);
    let others = [("metrics", &config.observability.metrics.listen), ("health", &config.observability.health.listen)];
    for (name, listen) in others {
        let Listen::Address(address) = listen else { continue };
        let same_host = address.ip() == main.0 || address.ip().is_unspecified() || main.0.is_unspecified();
        let path = ["observability", name, "listen"].map(str::to_owned);
        if let Some(node) = find(entries, &path)
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
            reading.refuse(node, Part::Value, says, "take another port, or write `listen = \"main\"`".to_owned());
        }
    }
}
