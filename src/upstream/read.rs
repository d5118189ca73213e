//! Turns the table of an upstream into settings: parses the address, and reads the files.

use std::fmt;

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::{
    base::Base,
    login::Credentials,
    settings::{ClientIdentity, Settings, Unusable},
};
use crate::{
    config::{NamedFile, Upstream, UpstreamPassword},
    diagnostics::{self, Problem, Problems, Text},
};

/// The largest file, in bytes.
const LARGEST: u64 = 16 << 20;
/// The largest file of a password, in bytes.
const LARGEST_PASSWORD: u64 = 64 * 1024;

/// Reads the settings of an upstream.
///
/// # Errors
/// All problems with them.
pub(super) fn settings(upstream: &Upstream) -> Result<Settings, Problems> {
    let mut problems = Vec::new();
    let base = Base::parse(upstream.url.as_str()).map_err(|error| {
        let help = "write for example `url = \"https://registry.example.com/v2/library\"`";
        problems.push(problem(
            upstream,
            "url",
            &upstream.url,
            format_args!("is no address of an upstream: {error}"),
            help,
        ));
    });
    let mut file = |key: &str, file: &NamedFile, most: u64| {
        let read = diagnostics::read_plain(&file.path, most).map(Zeroizing::new);
        let unread = |error| {
            let says = format!("names {}, which cannot be read: {error}", file.path.display());
            problem(upstream, key, &file.written, says, "name a file that the user of the server may read")
        };
        read.map_err(|error| problems.push(unread(error))).unwrap_or_default()
    };
    let server_ca_bundle = upstream.server_ca_bundle.as_ref();
    let server_ca_bundle = server_ca_bundle.map(|bundle| file("server_ca_bundle", bundle, LARGEST).to_vec());
    let client_identity = upstream.client.as_ref().map(|client| {
        let certificate = file("client_certificate", &client.certificate, LARGEST);
        ClientIdentity::new(&certificate, &file("client_private_key", &client.private_key, LARGEST))
    });
    let credentials = upstream.login.as_ref().map(|login| {
        let password = match &login.password {
            UpstreamPassword::Text(password) => password.clone(),
            UpstreamPassword::File(named) => password_of(&file("password_file", named, LARGEST_PASSWORD)),
        };
        Credentials { username: login.username.clone(), password }
    });
    let settings = base.map(|base| Settings {
        base,
        max_redirect: upstream.max_redirect,
        server_ca_bundle,
        client_identity,
        credentials,
        timeout: upstream.timeout,
        token_hosts: upstream.token_hosts.clone(),
        redirect_hosts: upstream.redirect_hosts.clone(),
    });
    match settings {
        Ok(settings) => Problems::new(problems).or(settings),
        Err(()) => Err(Problems::new(problems)),
    }
}

/// Returns the password in a file: its text without the line break at its end.
fn password_of(bytes: &[u8]) -> SecretString {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    String::from_utf8_lossy(bytes).as_ref().into()
}

/// Returns the problem with files that cannot be used, although they can be read.
pub(super) fn unusable(upstream: &Upstream, error: &Unusable) -> Problems {
    let (key, file) = match error {
        Unusable::Bundle(_) => ("server_ca_bundle", upstream.server_ca_bundle.as_ref()),
        Unusable::Identity(_) => ("client_certificate", upstream.client.as_ref().map(|client| &client.certificate)),
        Unusable::Other(_) => ("url", None),
    };
    let written = file.map_or(&upstream.url, |file| &file.written);
    let help = "name PEM files: certificates, and for `client_private_key` the key of the first certificate";
    problem(upstream, key, written, format_args!("cannot be used: {error}"), help).into()
}

fn problem(upstream: &Upstream, key: &str, at: &Text, says: impl fmt::Display, help: &str) -> Problem {
    at.problem(&(0..at.as_str().len()), format!("`{}.{key}` {says}", upstream.table), help)
}
