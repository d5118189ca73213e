//! The upstreams that a configuration names.

use std::{fs, path::Path, time::Duration};

use simple_registry::{
    config::Config,
    diagnostics::Source,
    memory::Memory,
    oci::Name,
    upstream::{Cached, CachedNamespaces, Reason},
};

use super::{
    INDEX, MEDIA_TYPE,
    hostile::{Hostile, answer},
    index, latest,
};
use crate::shared::certificates::Authority;

/// The example of the requirements, but for the folder of its files.
const EXAMPLE: &str = r#"
[[repository."library".upstream]]
url = "https://docker.io/v2/library"
client_certificate = "/path/to/client.crt"
client_private_key = "/path/to/client.key"

[[repository."library".upstream]]
url = "https://registry-1.docker.io/v2/library"
username = "username"
password = "password"

[[repository."library".upstream]]
url = "https://index.docker.io/v2/library"
# server_ca_bundle = "/path/to/ca.crt"
# anonymous access
"#;

fn config_in(folder: &Path, text: &str) -> Config {
    let source = Source::new(folder.join("config.toml").display().to_string(), text);
    Config::from_sources(&[source]).unwrap_or_else(|error| panic!("{error}"))
}

fn load(config: &Config, previous: Option<&CachedNamespaces>) -> CachedNamespaces {
    CachedNamespaces::load(config, previous, &Memory::new(1 << 20)).unwrap_or_else(|error| panic!("{error}"))
}

fn caches(text: &str) -> CachedNamespaces {
    load(&config_in(Path::new("/"), text), None)
}

fn of(caches: &CachedNamespaces, name: &str) -> Option<Cached> {
    caches.of(&name.parse::<Name>().unwrap())
}

#[test]
fn the_example_of_the_requirements_loads_as_written() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = Authority::new("hub").client("ana").write(folder.path(), "client");
    let text = EXAMPLE
        .replace("/path/to/client.crt", &certificate.display().to_string())
        .replace("/path/to/client.key", &key.display().to_string());
    let found = of(&load(&config_in(folder.path(), &text), None), "library/nginx").unwrap();
    assert_eq!((found.rest.as_str(), found.namespace.manifest_ttl), ("nginx", Duration::ZERO));
    assert!(found.namespace.stale_if_error);
    assert_eq!(found.namespace.upstreams.hosts().collect::<Vec<_>>(), ["registry-1.docker.io"; 3]);
}

#[test]
fn each_key_of_a_cache_comes_from_the_longest_namespace_that_states_it() {
    let caches = caches(
        r#"
        [[repository."*".upstream]]
        url = "https://all.example/v2"
        [repository."*"]
        manifest_ttl = "1h"
        [[repository.team.upstream]]
        url = "https://team.example/v2/x"
        [repository."team/slow"]
        manifest_ttl = "1 day"
        stale_if_error = false
        [repository."team/own"]
        upstream = []
        [repository."team/own/deeper"]
        immutable_tags = true
        "#,
    );
    let found = |name: &str| {
        of(&caches, name).map(|found| {
            let host = found.namespace.upstreams.hosts().next().unwrap().to_owned();
            (host, found.rest, found.namespace.manifest_ttl.as_secs(), found.namespace.stale_if_error)
        })
    };
    let expected = |host: &str, rest: &str, ttl, stale| Some((format!("{host}.example"), rest.to_owned(), ttl, stale));
    assert_eq!(found("a/b"), expected("all", "a/b", 3600, true));
    assert_eq!(found("teams/b"), expected("all", "teams/b", 3600, true));
    assert_eq!(found("team"), expected("team", "", 3600, true));
    assert_eq!(found("team/a/b"), expected("team", "a/b", 3600, true));
    assert_eq!(found("team/slow"), expected("team", "slow", 86400, false));
    assert_eq!(found("team/slow/a"), expected("team", "slow/a", 86400, false));
    for pushed in ["team/own", "team/own/a", "team/own/deeper", "team/own/deeper/a"] {
        assert_eq!(found(pushed), None, "{pushed}");
    }
}

#[test]
fn without_upstreams_no_repository_is_a_cache() {
    for text in ["", "[repository.a]\nmanifest_ttl = 5", "[repository.a]\nupstream = []"] {
        let caches = caches(text);
        assert!(caches.is_empty() && of(&caches, "a/b").is_none(), "{text}");
    }
}

/// An upstream that refuses further requests for a while. A registry that remembers that asks no more.
#[tokio::test]
async fn an_upstream_keeps_its_limit_over_a_reload_unless_its_login_changes() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hostile::start(|_| answer(429, &[("retry-after", "600")], b"")).await;
    fs::write(folder.path().join("password"), "one\n").unwrap();
    let text = |more: &str| {
        format!(
            "[[repository.a.upstream]]\nurl = \"http://127.0.0.1:{}/v2\"\nusername = \"ana\"\n\
             password_file = \"password\"\n{more}",
            hub.port
        )
    };
    let ask = async |caches: &CachedNamespaces| {
        let found = of(caches, "a/b").unwrap();
        let reason = found.namespace.upstreams.describe(&found.rest, &latest()).await.unwrap_err().reasons.remove(0).1;
        assert!(matches!(reason, Reason::Limited { .. }), "{reason}");
        hub.lines().len()
    };
    let reload = |previous: &CachedNamespaces, more: &str| load(&config_in(folder.path(), &text(more)), Some(previous));
    let first = load(&config_in(folder.path(), &text("")), None);
    assert_eq!((ask(&first).await, ask(&first).await), (1, 1));
    let other_key = "[repository.a]\nmanifest_ttl = 5\n[repository.other]\n";
    let second = reload(&first, other_key);
    assert_eq!(of(&second, "a/b").unwrap().namespace.manifest_ttl, Duration::from_secs(5));
    assert_eq!(ask(&second).await, 1);
    let other_settings = reload(&second, "timeout = 5\n");
    assert_eq!(ask(&other_settings).await, 1, "the limit is the host's and the login's");
    fs::write(folder.path().join("password"), "two\n").unwrap();
    let other_password = reload(&second, other_key);
    assert_eq!(ask(&other_password).await, 2);
}

/// Two namespaces of one registry.
#[tokio::test]
async fn all_upstreams_with_one_host_and_one_login_share_a_limit() {
    let hub = Hostile::start(|_| answer(429, &[("retry-after", "600")], b"")).await;
    let table = |namespace: &str, login: &str| {
        format!(
            "[[repository.{namespace}.upstream]]\nurl = \"http://127.0.0.1:{}/v2/{namespace}\"\n{login}\n",
            hub.port
        )
    };
    let login = "username = \"ana\"\npassword = \"secret\"";
    let caches = caches(&[table("a", ""), table("b", ""), table("c", login)].concat());
    for (namespace, questions) in [("a", 1), ("b", 1), ("c", 2)] {
        let found = of(&caches, &format!("{namespace}/app")).unwrap();
        let unanswered = found.namespace.upstreams.manifest("app", &latest(), &(1 << 20)).await.unwrap_err();
        assert!(matches!(unanswered.reasons[0].1, Reason::Limited { .. }), "{unanswered}");
        assert_eq!(hub.lines().len(), questions, "{namespace}");
    }
}

#[tokio::test]
async fn a_password_comes_from_its_file_without_the_line_break() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("password"), "hunter2\r\n").unwrap();
    let hub = Hostile::start(|seen| match seen.header("authorization") {
        None => answer(401, &[("www-authenticate", "Basic realm=\"hub\"")], b""),
        Some(_) => index(seen),
    })
    .await;
    let text = format!(
        "[[repository.a.upstream]]\nurl = \"http://127.0.0.1:{}/v2\"\nusername = \"ana\"\npassword_file = \"password\"",
        hub.port
    );
    let caches = load(&config_in(folder.path(), &text), None);
    let found = of(&caches, "a/b").unwrap();
    let answer = found.namespace.upstreams.manifest("b", &latest(), &(1 << 20)).await.unwrap();
    assert_eq!((&*answer.value.bytes, answer.value.media_type.as_str()), (INDEX, MEDIA_TYPE));
    // ana:hunter2
    assert_eq!(hub.seen()[1].header("authorization"), Some("Basic YW5hOmh1bnRlcjI="));
    let warnings = caches.warnings().join("\n");
    assert!(warnings.starts_with("repository.a.upstream[0]: the credentials travel to 127.0.0.1 in plain text"));
    assert!(!format!("{caches:?} {warnings}").contains("hunter2"));
}

/// Returns the problems with upstreams that a configuration has, in a folder with files of several kinds.
fn told(keys: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (client, other) = (Authority::new("hub").client("ana"), Authority::new("hub").client("ben"));
    client.write(folder.path(), "client");
    other.write(folder.path(), "other");
    fs::write(folder.path().join("empty"), "").unwrap();
    let text = format!("[repository.a]\n[[repository.a.upstream]]\n{keys}");
    let error = CachedNamespaces::load(&config_in(folder.path(), &text), None, &Memory::new(0)).unwrap_err();
    error.to_string().replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn a_wrong_address_is_told_with_its_place() {
    let expected = "\
error: `repository.a.upstream[0].url` is no address of an upstream: its path is /library: it must be /v2, or begin with /v2/, as in https://registry.example/v2/library
 --> config.toml:3:8
  |
3 | url = \"https://registry.example/library\"
  |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
help: write for example `url = \"https://registry.example.com/v2/library\"`";
    assert_eq!(told("url = \"https://registry.example/library\""), expected);
}

#[test]
fn a_file_that_cannot_be_read_or_used_is_told_with_its_key() {
    let url = "url = \"https://registry.example/v2\"";
    for (keys, key, says) in [
        ("server_ca_bundle = \"absent\"", "server_ca_bundle", "names absent, which cannot be read"),
        ("server_ca_bundle = \"empty\"", "server_ca_bundle", "cannot be used: it holds no usable certificate"),
        (
            "client_certificate = \"absent\"\nclient_private_key = \"client.key\"",
            "client_certificate",
            "names absent, which cannot be read",
        ),
        (
            "client_certificate = \"client.pem\"\nclient_private_key = \"empty\"",
            "client_certificate",
            "cannot be used: it and its private key are no client certificate",
        ),
        (
            "client_certificate = \"client.pem\"\nclient_private_key = \"other.key\"",
            "client_certificate",
            "cannot be used: it and its private key are no client certificate",
        ),
        ("username = \"ana\"\npassword_file = \"absent\"", "password_file", "names absent, which cannot be read"),
        ("username = \"ana\"\npassword_file = \"empty\"", "password_file", "names empty, which has no password"),
    ] {
        let told = told(&format!("{url}\n{keys}"));
        assert!(told.starts_with(&format!("error: `repository.a.upstream[0].{key}` {says}")), "{told}");
        assert!(told.contains(" --> config.toml:"), "{told}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let told = told(
        "url = \"https://a.example/x\"\nserver_ca_bundle = \"absent\"\n[[repository.b.upstream]]\nurl = \"https://b.example/y\"",
    );
    assert_eq!(told.matches("error: ").count(), 3, "{told}");
}
