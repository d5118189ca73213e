//! The meaning of valid files.

use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret;
use simple_registry::config::{
    Audit, AuditFile, Config, FsStorage, Listen, LogOutput, Login, OnAuditError, PolicyDir, S3Storage, Storage,
    VerifyPulls,
};

use super::{read, told};

const S3: &str = r#"
    [storage.s3]
    access_key_id = "id"
    secret_key = "hunter2"
    endpoint = "http://127.0.0.1:9000/"
    bucket = "registry"
"#;

fn s3(texts: &[&str]) -> S3Storage {
    match read(texts).expect("it is valid").storage {
        Storage::S3(s3) => s3,
        Storage::Fs(_) => panic!("a directory instead of a bucket"),
    }
}

#[test]
fn an_empty_file_and_no_file_mean_the_defaults() {
    assert_eq!(read(&[]).expect("no file is valid"), Config::default());
    assert_eq!(read(&["", "# nothing\n"]).expect("an empty file is valid"), Config::default());
}

#[test]
fn the_defaults_are_those_that_were_promised() {
    let config = Config::default();
    assert_eq!(config.max_concurrent_requests, 50);
    assert_eq!(config.max_concurrent_transfers, 1000);
    assert_eq!(config.max_manifest_size, 4 << 20);
    assert_eq!(config.max_blob_size, 100 << 30);
    assert!(!config.allow_missing_references);
    assert_eq!(config.cache_ttl, Duration::from_secs(2));
    assert_eq!(config.verify_pulls, VerifyPulls::None);
    assert_eq!(config.server.bind_address.to_string(), "127.0.0.1");
    assert_eq!(config.server.port, 5000);
    assert_eq!(config.server.query_timeout, Duration::from_mins(1));
    assert_eq!(config.server.query_timeout_grace_period, Duration::from_secs(30));
    assert_eq!(config.server.streaming_chunk_size, 512 << 10);
    assert_eq!(config.storage, Storage::Fs(FsStorage { root_dir: "./data".into(), durable: true, mode: 0o700 }));
    assert_eq!(config.policy_dir, Some(PolicyDir { path: "policies".into(), must_exist: false }));
    assert_eq!(config.server.trusted_proxies, []);
    assert_eq!(config.server.hosts, [""; 0]);
    assert_eq!(config.server.tls, None);
    assert!(config.identity.is_empty());
    assert_eq!((config.token.realm, config.token.signing_key), (None, "token.key".into()));
    assert_eq!(config.token.ttl, Duration::from_mins(5));
    let audit = Audit {
        file: AuditFile::Off,
        max_size: 100 << 20,
        max_age: Duration::from_hours(24),
        keep_age: Duration::from_hours(400 * 24),
        max_total_size: None,
        on_error: OnAuditError::Deny,
    };
    assert_eq!(config.audit, audit);
    assert_eq!(config.access_policy.default_allow, None);
    assert!(config.repository.is_empty());
    assert_eq!(config.observability.tracing.endpoint, None);
    assert_eq!(config.observability.logs.output, LogOutput::Stderr);
    assert_eq!(config.observability.logs.level, "info");
    assert!(config.observability.logs.requests);
    assert_eq!(config.observability.metrics.listen, Listen::Main);
    assert_eq!(config.scrub.upload_expiry, Duration::from_hours(24));
}

#[test]
fn a_data_dir_means_the_projects_own_file_with_that_directory() {
    let file = include_str!("../../../config.toml");
    let mut config = read(&[file]).expect("the project's own file is valid");
    config.storage = Storage::Fs(FsStorage { root_dir: "/srv/registry".into(), durable: true, mode: 0o700 });
    config.token.signing_key = "/srv/registry/token.key".into();
    config.policy_dir = None;
    assert_eq!(Config::for_data_dir(Path::new("/srv/registry"), Login::None), config);
}

#[test]
fn tables_merge_and_a_later_file_wins() {
    let base = "max_concurrent_requests = 7\n[server]\nport = 1\nquery_timeout = 5\n[repository.a.access_policy]\ndefault_allow = true";
    let over = "[server]\nport = 2\n[repository.b.access_policy]\ndefault_allow = false";
    let last = "server.port = 3\nrepository.a.access_policy = { default_allow = false }";
    let config = read(&[base, over, last]).expect("they are valid");
    assert_eq!(config.max_concurrent_requests, 7);
    assert_eq!(config.server.port, 3);
    assert_eq!(config.server.query_timeout, Duration::from_secs(5));
    assert_eq!(config.repository["a"].access_policy.as_ref().unwrap().default_allow, Some(false));
    assert_eq!(config.repository["b"].access_policy.as_ref().unwrap().default_allow, Some(false));
    assert_eq!(read(&[over, base]).expect("they are valid").server.port, 1);
}

#[test]
fn a_secret_may_be_in_a_file_of_its_own() {
    let public = S3.replace("secret_key = \"hunter2\"", "");
    let s3 = s3(&[&public, "[storage.s3]\nsecret_key = \"hunter2\""]);
    assert_eq!(s3.secret_key.expose_secret(), "hunter2");
}

#[test]
fn a_bucket_has_defaults_and_is_normalised() {
    let plain = s3(&[S3]);
    assert_eq!(plain.endpoint, "http://127.0.0.1:9000");
    assert_eq!(plain.region, "us-east-1");
    assert_eq!(plain.key_prefix, "");
    assert_eq!(plain.multipart_min_part_size, 5_242_880);
    let more = format!("{S3}\nkey_prefix = \"team/registry/\"\nmultipart_min_part_size = \"8MiB\"");
    assert_eq!(s3(&[&more]).key_prefix, "team/registry");
    assert_eq!(s3(&[&more]).multipart_min_part_size, 8 << 20);
}

#[test]
fn words_and_addresses_are_read() {
    let config = read(&["verify_pulls = 20\n[server]\nbind_address = \"::\"\nport = 0\n[observability.metrics]\nlisten = \"[::1]:9090\"\n\
         [observability.health]\nlisten = \"off\"\n[observability.logs]\noutput = \"/var/log/registry.log\"\nlevel = \"info,hyper=warn\""])
    .expect("it is valid");
    assert_eq!(config.verify_pulls, VerifyPulls::OneIn(20));
    assert!(config.server.bind_address.is_unspecified() && config.server.bind_address.is_ipv6());
    assert_eq!(config.observability.metrics.listen, Listen::Address("[::1]:9090".parse().expect("an address")));
    assert_eq!(config.observability.health.listen, Listen::Off);
    assert_eq!(config.observability.logs.output, LogOutput::File("/var/log/registry.log".into()));
}

#[test]
fn namespaces_are_repository_names_or_a_star() {
    for name in ["*", "a", "a__b/c--d", "team/app.v2", "0", "a---b", &"a".repeat(255)] {
        let config = read(&[&format!("[repository.\"{name}\"]")]).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(config.repository.contains_key(name));
    }
    for name in ["", "A", "a/", "/a", "a//b", "a..b", "a___b", "a._b", "-a", "a-", "a*", "ä", &"a".repeat(256)] {
        assert!(read(&[&format!("[repository.\"{name}\"]")]).is_err(), "{name} was accepted");
    }
}

#[test]
fn limits_hold_on_both_sides() {
    let good = [
        "max_manifest_size = 1024",
        "max_manifest_size = \"64MiB\"",
        "cache_ttl = 0",
        "cache_ttl = \"500ms\"",
        "observability.tracing.sampling_rate = 0",
        "observability.tracing.sampling_rate = 0.25",
        "server.query_timeout = 1",
        "scrub.upload_expiry = \"2 days\"",
        "server.streaming_chunk_size = \"4 kib\"",
        "observability.tracing.endpoint = \"https://[::1]:4318/otlp\"",
        "token.ttl = 60",
        "token.ttl = \"1d\"",
        "audit.file = \"stdout\"",
        "server.trusted_proxies = [\"0.0.0.0/0\"]",
        "server.hosts = [\"registry.lan\", \"a\"]",
    ];
    let bad = [
        "max_manifest_size = 1023",
        "max_manifest_size = 67108865",
        "max_manifest_size = \"1.5MiB\"",
        "max_manifest_size = \"4  MiB\"",
        "max_blob_size = \"99999999999TiB\"",
        "max_blob_size = -1",
        "max_blob_size = 99999999999999999999",
        "cache_ttl = \"2\"",
        "cache_ttl = -1",
        "cache_ttl = \"1h30m\"",
        "max_concurrent_transfers = 0",
        "verify_pulls = 0",
        "observability.tracing.sampling_rate = 1.1",
        "observability.tracing.sampling_rate = nan",
        "server.query_timeout = 0",
        "server.port = 65536",
        "server.bind_address = \"localhost\"",
        "server.streaming_chunk_size = 4095",
        "scrub.upload_expiry = \"999ms\"",
        "storage.fs.root_dir = \"\"",
        "observability.logs.level = \"\"",
        "observability.logs.level = \"inof\"",
        "observability.metrics.listen = \"127.0.0.1\"",
        "observability.tracing.endpoint = \"ftp://a\"",
        "observability.tracing.endpoint = \"http://\"",
        "observability.tracing.endpoint = \"http://a:99999\"",
        "observability.tracing.endpoint = \"http://a/?b=c\"",
        "storage.s3.key_prefix = \"/a\"",
        "storage.s3.key_prefix = \"a/../b\"",
        "storage.s3.key_prefix = \"/\"",
        "storage.s3.multipart_min_part_size = \"4MB\"",
        "policy_dir = \"\"",
        "token.ttl = 59",
        "token.ttl = 86401",
        "token.realm = \"registry.example.com\"",
        "token.signing_key = \"\"",
        "audit.max_size = 1",
        "audit.on_error = \"ignore\"",
        "audit.keep_age = -1",
        "server.trusted_proxies = [\"\"]",
        "server.hosts = [\"registry.lan:5000\"]",
        "server.hosts = [\"\"]",
        "server.hosts = [\"https://registry.lan\"]",
        "server.trusted_proxies = [\"10.0.0.0/33\"]",
        "server.trusted_proxies = \"10.0.0.0/8\"",
    ];
    for text in good {
        assert!(read(&[text]).is_ok(), "{text} was refused");
    }
    for text in bad {
        assert!(read(&[text]).is_err(), "{text} was accepted");
    }
}

#[test]
fn a_key_of_an_older_version_is_refused_by_the_name_of_its_successor() {
    let problems = told("[audit]\nfile = \"/a\"\nkeep = 10\n");
    for part in ["`audit.keep` is no key any more", "write `keep_age` in its place"] {
        assert!(problems.contains(part), "{problems}");
    }
}
