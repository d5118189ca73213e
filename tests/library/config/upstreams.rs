//! The tables of upstreams.

use secrecy::ExposeSecret as _;
use simple_registry::config::{Upstream, UpstreamPassword};

use super::{read, told};

const URL: &str = "[[repository.library.upstream]]\nurl = \"https://a.example/v2/library\"\n";

fn upstreams(text: &str) -> Vec<Upstream> {
    let config = read(&[text]).unwrap_or_else(|error| panic!("{text}: {error}"));
    config.repository["library"].upstream.clone().unwrap()
}

#[test]
fn an_upstream_has_defaults() {
    let upstream = upstreams(URL).remove(0);
    assert_eq!((upstream.url.as_str(), upstream.max_redirect), ("https://a.example/v2/library", 5));
    assert_eq!(upstream.timeout.as_secs(), 10);
    assert!(upstream.client.is_none() && upstream.login.is_none() && upstream.server_ca_bundle.is_none());
}

#[test]
fn the_order_is_that_of_the_file_and_a_later_file_replaces_the_list() {
    let both = format!("{URL}[[repository.library.upstream]]\nurl = \"https://b.example/v2\"");
    let urls: Vec<String> = upstreams(&both).iter().map(|upstream| upstream.url.as_str().to_owned()).collect();
    assert_eq!(urls, ["https://a.example/v2/library", "https://b.example/v2"]);
    let config = read(&[&both, "[repository.library]\nupstream = []"]).unwrap();
    assert_eq!(config.repository["library"].upstream, Some(Vec::new()));
}

#[test]
fn a_password_is_given_or_in_a_file() {
    let login = |keys: &str| upstreams(&format!("{URL}{keys}")).remove(0).login.unwrap();
    let given = login("username = \"ana\"\npassword = \"hunter2\"");
    assert!(matches!(&given.password, UpstreamPassword::Text(text) if text.expose_secret() == "hunter2"));
    assert!(!format!("{given:?}").contains("hunter2"));
    let in_file = login("username = \"ana\"\npassword_file = \"secrets/hub\"");
    assert!(matches!(&in_file.password, UpstreamPassword::File(file) if file.path.ends_with("secrets/hub")));
}

#[test]
fn keys_that_belong_together_are_given_together() {
    for (keys, says) in [
        ("client_certificate = \"a\"", "client_certificate` is given without `client_private_key`"),
        ("client_private_key = \"a\"", "client_private_key` is given without `client_certificate`"),
        ("username = \"ana\"", "username` is given without `password` or `password_file`"),
        ("password = \"hunter2\"", "password` is given without `username`"),
        ("password_file = \"a\"", "password_file` is given without `username`"),
        (
            "username = \"ana\"\npassword = \"hunter2\"\npassword_file = \"a\"",
            "password_file` is given beside `repository.library.upstream[0].password`",
        ),
    ] {
        let told = told(&format!("{URL}{keys}"));
        assert!(told.starts_with(&format!("error: `repository.library.upstream[0].{says}")), "{told}");
        assert!(told.contains(" --> config.toml:") && !told.contains("hunter2"), "{told}");
        assert_eq!(told.matches("error: ").count(), 1, "{told}");
    }
}

#[test]
fn wrong_upstreams_are_told_with_their_rule() {
    for (keys, says) in [
        ("[repository.library.upstream]\nurl = \"https://a/v2\"", "must be a list of tables"),
        ("[[repository.library.upstream]]", "`[[repository.library.upstream]]` needs `url`"),
        ("[[repository.library.upstream]]\nurl = \"docker.io\"", "must be a URL such as"),
        ("[[repository.library.upstream]]\nurl = \"https://ana:hunter2@a.example/v2\"", "must be a URL such as"),
        (&format!("{URL}timeout = \"6m\""), "must be a duration from 100ms to 5m"),
        (&format!("{URL}max_redirect = 21"), "must be an integer from 0 to 20"),
        (&format!("{URL}token_hosts = [\"a:443\"]"), "token_hosts[0]` must be a host name or address"),
        (&format!("{URL}redirect_hosts = [\"https://a\"]"), "redirect_hosts[0]` must be a host name or address"),
        (&format!("{URL}username = \"ana:hunter2\"\npassword = \"a\""), "must be a name of 1 to 255 characters"),
        (&format!("{URL}username = \"ana\"\npassword = \"\""), "must be a text of 1 byte to 64 KiB"),
        (&format!("{URL}pasword = \"hunter2\""), "did you mean `password`?"),
        ("url = \"https://a/v2\"", "`url` belongs to `[[repository.\"<namespace>\".upstream]]`"),
    ] {
        let told = told(keys);
        assert!(told.contains(says) && !told.contains("hunter2"), "{told}");
    }
}

#[test]
fn hosts_may_be_addresses() {
    let upstream =
        upstreams(&format!("{URL}redirect_hosts = [\"10.0.0.1\", \"FD12:0::1\", \"cdn.example\"]")).remove(0);
    assert_eq!(upstream.redirect_hosts, ["10.0.0.1", "fd12::1", "cdn.example"]);
}

#[test]
fn mirrors_that_would_mean_two_things_are_refused_at_their_place() {
    let hub = "mirror_of = \"hub\"\n[repository.hub]\nserves = [\"docker.io\"]\n";
    for shadow in ["library", "team", "library/nginx/deep", "hubs"] {
        let told = told(&format!("{hub}[repository.{shadow:?}.access_policy]\n"));
        assert!(told.contains("covers names that docker asks a mirror of Docker Hub for"), "{told}");
        assert!(
            told.contains("`mirror_of` is \"hub\" (config.toml:1)") && told.contains(" --> config.toml:4:"),
            "{told}"
        );
    }
    for beside in ["*", "hub/library", "team.example", "localhost/a"] {
        assert!(read(&[&format!("{hub}[repository.{beside:?}]\n")]).is_ok(), "{beside}");
    }
    for (text, says) in [
        ("mirror_of = \"hub\"", "there is no table `[repository.hub]`"),
        ("mirror_of = \"*\"\n[repository.\"*\"]", "there is no table"),
        (
            "[repository.a]\nserves = [\"docker.io\"]\n[repository.b]\nserves = [\"Docker.io\"]",
            "`repository.b.serves` names docker.io, as does `repository.a.serves`",
        ),
        ("[repository.a]\nserves = [\"https://docker.io\"]", "serves[0]` must be the name of a registry"),
        ("[repository.a]\nserves = [\"a:0\"]", "serves[0]` must be the name of a registry"),
    ] {
        let told = told(text);
        assert!(told.contains(says), "{told}");
    }
}
