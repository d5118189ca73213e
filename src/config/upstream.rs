//! The tables of upstreams: `[[repository."<namespace>".upstream]]`.

use std::net::IpAddr;

use secrecy::SecretString;

use super::{
    model::{ClientFiles, NamedFile, Upstream, UpstreamLogin, UpstreamPassword},
    paths::{host, path},
};
use crate::diagnostics::{Table, Text, rule};

/// Bytes of a password. Some registries give tokens or whole key files as passwords.
const LONGEST_PASSWORD: usize = 64 * 1024;

/// Reads the list of one repository table.
pub(super) fn upstreams(repository: &mut Table<'_>) -> Vec<Upstream> {
    repository.list("upstream").into_iter().map(upstream).collect()
}

fn upstream(mut table: Table<'_>) -> Upstream {
    let example = "https://registry.example.com/v2/library";
    table.required("url", &format!("\"{example}\""), &rule::url(example));
    let upstream = Upstream {
        table: table.path().to_owned(),
        url: table.text("url").unwrap_or_else(|| Text::unwritten("", "")),
        max_redirect: table.key("max_redirect", "5", &rule::integer(0..=20)),
        server_ca_bundle: file(&mut table, "server_ca_bundle", "\"ca.crt\""),
        client: client(&mut table),
        login: login(&mut table),
        timeout: table.key("timeout", "\"10s\"", &rule::time("100ms", "5m")),
        token_hosts: table.key("token_hosts", "[]", &hosts()),
        redirect_hosts: table.key("redirect_hosts", "[]", &hosts()),
    };
    table.finish();
    upstream
}

fn file(table: &mut Table<'_>, key: &str, example: &str) -> Option<NamedFile> {
    let path = table.optional(key, example, &rule::text("the path of a file", path))?;
    Some(NamedFile { path: table.beside_file(key, path), written: table.text(key)? })
}

fn client(table: &mut Table<'_>) -> Option<ClientFiles> {
    let certificate = file(table, "client_certificate", "\"client.crt\"");
    let private_key = file(table, "client_private_key", "\"client.key\"");
    needs(table, "client_certificate", &["client_private_key"]);
    needs(table, "client_private_key", &["client_certificate"]);
    Some(ClientFiles { certificate: certificate?, private_key: private_key? })
}

fn login(table: &mut Table<'_>) -> Option<UpstreamLogin> {
    let says = "a name of 1 to 255 characters, without a colon or control characters";
    let username = rule::text(says, |text| {
        let fits = (1..=255).contains(&text.chars().count()) && !text.contains(|c: char| c == ':' || c.is_control());
        fits.then(|| text.to_owned())
    });
    let password = rule::text("a text of 1 byte to 64 KiB", |text| {
        (1..=LONGEST_PASSWORD).contains(&text.len()).then(|| SecretString::from(text))
    });
    let username = table.optional("username", "\"<name>\"", &username);
    let password = table.optional("password", "\"<password>\"", &password);
    let password_file = file(table, "password_file", "\"password\"");
    needs(table, "username", &["password", "password_file"]);
    needs(table, "password", &["username"]);
    needs(table, "password_file", &["username"]);
    if table.entry("password").is_some() && table.entry("password_file").is_some() {
        let (one, other) = (table.full("password_file"), table.full("password"));
        table.refuse("password_file", format!("`{one}` is given beside `{other}`"), "remove one of the two");
    }
    let password = password.map(UpstreamPassword::Text).or_else(|| password_file.map(UpstreamPassword::File));
    Some(UpstreamLogin { username: username?, password: password? })
}

/// Checks that a key does not stand without one of the keys that complete it.
fn needs(table: &Table<'_>, key: &str, others: &[&str]) {
    if table.entry(key).is_none() || others.iter().any(|other| table.entry(other).is_some()) {
        return;
    }
    let others = others.iter().map(|other| format!("`{other}`")).collect::<Vec<_>>().join(" or ");
    table.refuse(key, format!("`{}` is given without {others}", table.full(key)), format!("add {others}"));
}

/// Accepts the names of registries as references of images begin with them: hosts, perhaps with a port.
pub(super) fn registries() -> rule::Rule<Vec<String>> {
    let one = rule::text("the name of a registry such as \"docker.io\" or \"registry.lan:5000\"", |text| {
        let (name, port) = text.rsplit_once(':').unwrap_or((text, "1"));
        (host(name) && port.parse::<u16>().is_ok_and(|port| port > 0)).then(|| text.to_ascii_lowercase())
    });
    rule::list("a list of up to 100 names of registries such as [\"docker.io\"]", 100, one)
}

fn hosts() -> rule::Rule<Vec<String>> {
    let one = rule::text("a host name or address such as \"auth.example.com\", without a port", |text| {
        let address = text.parse::<IpAddr>().map(|address| address.to_string());
        address.ok().or_else(|| host(text).then(|| text.to_owned()))
    });
    rule::list("a list of up to 100 host names or addresses such as \"auth.example.com\"", 100, one)
}
