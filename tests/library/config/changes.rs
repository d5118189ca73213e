//! The keys that change while a server runs, and those that need a restart: by the code, and by the reference.

use simple_registry::config::Config;

use super::reference::{line, needed_by, rows};
use super::{BCRYPT, HASH, read};

/// Each key with another value than its default, or than `needed_by` gives it.
const OTHERS: &[(&str, &str)] = &[
    ("max_concurrent_requests", "7"),
    ("max_concurrent_transfers", "7"),
    ("max_uploads_per_address", "7"),
    ("max_uploads_per_identity", "7"),
    ("max_uploads_per_repository", "7"),
    ("min_transfer_rate", "7"),
    ("cache_size", "'7MiB'"),
    ("document_memory", "'7MiB'"),
    ("max_manifest_size", "4096"),
    ("max_blob_size", "4096"),
    ("allow_missing_references", "true"),
    ("cache_ttl", "7"),
    ("verify_pulls", "7"),
    ("policy_dir", "'other'"),
    ("mirror_of", "'hub'"),
    ("server.bind_address", "'::1'"),
    ("server.port", "7"),
    ("server.query_timeout", "7"),
    ("server.query_timeout_grace_period", "7"),
    ("server.streaming_chunk_size", "4096"),
    ("server.trusted_proxies", "['::1']"),
    ("server.hosts", "['registry.lan']"),
    ("server.tls.server_certificate_bundle", "'other'"),
    ("server.tls.server_private_key", "'other'"),
    ("server.tls.client_ca_bundle", "'other'"),
    ("server.tls.client_auth", "'required'"),
    ("server.tls.client_crl", "'other'"),
    ("storage.fs.root_dir", "'other'"),
    ("storage.fs.durable", "false"),
    ("storage.fs.mode", "'0750'"),
    ("storage.s3.access_key_id", "'other'"),
    ("storage.s3.secret_key", "'other'"),
    ("storage.s3.endpoint", "'http://other'"),
    ("storage.s3.bucket", "'other'"),
    ("storage.s3.region", "'other'"),
    ("storage.s3.key_prefix", "'other'"),
    ("storage.s3.multipart_min_part_size", "'7MiB'"),
    ("access_policy.default_allow", "true"),
    ("access_policy.rules", "['true']"),
    ("repository.\"<namespace>\".access_policy.default_allow", "true"),
    ("repository.\"<namespace>\".access_policy.rules", "['true']"),
    ("repository.\"<namespace>\".retention_policy.rules", "['true']"),
    ("repository.\"<namespace>\".immutable_tags", "['^v']"),
    ("repository.\"<namespace>\".allow_delete", "true"),
    ("repository.\"<namespace>\".manifest_ttl", "7"),
    ("repository.\"<namespace>\".cooldown", "7"),
    ("repository.\"<namespace>\".serves", "['docker.io']"),
    ("repository.\"<namespace>\".stale_if_error", "false"),
    ("repository.\"<namespace>\".cooldown_exceptions", "['true']"),
    ("repository.\"<namespace>\".refresh.tags", "['^v']"),
    ("repository.\"<namespace>\".refresh.interval", "'2h'"),
    ("repository.\"<namespace>\".refresh.platforms", "['linux/amd64']"),
    ("repository.\"<namespace>\".upstream[].url", "'https://other/v2'"),
    ("repository.\"<namespace>\".upstream[].max_redirect", "7"),
    ("repository.\"<namespace>\".upstream[].server_ca_bundle", "'other'"),
    ("repository.\"<namespace>\".upstream[].client_certificate", "'other'"),
    ("repository.\"<namespace>\".upstream[].client_private_key", "'other'"),
    ("repository.\"<namespace>\".upstream[].username", "'other'"),
    ("repository.\"<namespace>\".upstream[].password", "'other'"),
    ("repository.\"<namespace>\".upstream[].password_file", "'other'"),
    ("repository.\"<namespace>\".upstream[].timeout", "7"),
    ("repository.\"<namespace>\".upstream[].token_hosts", "['other']"),
    ("repository.\"<namespace>\".upstream[].redirect_hosts", "['other']"),
    ("identity.<id>.username", "'other'"),
    ("identity.<id>.password", "'<bcrypt>'"),
    ("identity.<id>.groups", "['staff']"),
    ("token.realm", "'http://other'"),
    ("token.signing_key", "'other'"),
    ("token.ttl", "77"),
    ("audit.file", "'stdout'"),
    ("audit.max_size", "'7MiB'"),
    ("audit.max_age", "7"),
    ("audit.keep_age", "7"),
    ("audit.max_total_size", "'7MiB'"),
    ("audit.on_error", "'continue'"),
    ("observability.tracing.endpoint", "'http://other'"),
    ("observability.tracing.sampling_rate", "0.5"),
    ("observability.logs.output", "'stdout'"),
    ("observability.logs.format", "'json'"),
    ("observability.logs.level", "'debug'"),
    ("observability.logs.requests", "false"),
    ("observability.metrics.listen", "'off'"),
    ("observability.health.listen", "'off'"),
    ("scrub.upload_expiry", "7"),
    ("scrub.grace", "7"),
    ("scrub.trash", "7"),
    ("scrub.untagged", "'delete'"),
    ("scrub.untagged_grace", "7"),
    ("scrub.interval", "7"),
    ("scrub.record", "'other'"),
    ("scrub.tag_history.age", "7"),
    ("scrub.tag_history.count", "7"),
];

fn valid(texts: &[&str]) -> Config {
    read(texts).unwrap_or_else(|error| panic!("{texts:?}: {error}"))
}

#[test]
fn each_key_is_live_or_takes_a_restart_as_the_reference_says() {
    let mut rows = rows();
    for (key, other) in OTHERS {
        let path = key.replace("<namespace>", "*").replace("<id>", "ana");
        let before = needed_by(&path);
        let change = line(&path, other).replace("<bcrypt>", BCRYPT);
        let (old, new) = (valid(&[&before]), valid(&[&before, &change]));
        assert_ne!(old, new, "{key} is not changed by this test");
        let row = rows.remove(*key).unwrap_or_else(|| panic!("{key} is not in the reference"));
        let expected: &[&str] = if row.is_live { &[] } else { &[key] };
        assert_eq!(old.changes_needing_restart(&new), expected, "{key}");
        assert_eq!(new.changes_needing_restart(&old), expected, "{key}, back");
        assert!(new.changes_needing_restart(&new.clone()).is_empty(), "{key}");
    }
    assert!(rows.is_empty(), "keys without another value here: {:?}", rows.keys());
}

#[test]
fn tables_that_come_or_go_are_named_once() {
    let tls = needed_by("server.tls.");
    assert_eq!(valid(&[]).changes_needing_restart(&valid(&[&tls])), ["server.tls"]);
    assert_eq!(valid(&[&tls]).changes_needing_restart(&valid(&[])), ["server.tls"]);
    let s3 = needed_by("storage.s3.");
    assert_eq!(valid(&[]).changes_needing_restart(&valid(&[&s3])), ["storage"]);
    let identity = format!("[identity.ana]\nusername = \"ana\"\npassword = '{HASH}'\n[repository.team]");
    assert!(valid(&[]).changes_needing_restart(&valid(&[&identity])).is_empty());
}
