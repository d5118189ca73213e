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
    let mut reader = Reader { upstream, problems: Vec::new() };
    let base = reader.base();
    let bundle = upstream.server_ca_bundle.as_ref();
    let server_ca_bundle = bundle.and_then(|bundle| reader.file("server_ca_bundle", bundle, LARGEST));
    let client_identity = upstream.client.as_ref().and_then(|client| {
        let certificate = reader.file("client_certificate", &client.certificate, LARGEST);
        let key = reader.file("client_private_key", &client.private_key, LARGEST);
        Some(ClientIdentity::new(&certificate?, &key?))
    });
    let credentials = upstream.login.as_ref().and_then(|login| {
        let password = match &login.password {
            UpstreamPassword::Text(password) => password.clone(),
            UpstreamPassword::File(file) => reader.password(file)?,
        };
        Some(Credentials { username: login.username.clone(), password })
    });
    let settings = base.map(|base| Settings {
        base,
        max_redirect: upstream.max_redirect,
        server_ca_bundle: server_ca_bundle.map(|bundle| bundle.to_vec()),
        client_identity,
        credentials,
        timeout: upstream.timeout,
        token_hosts: upstream.token_hosts.clone(),
        redirect_hosts: upstream.redirect_hosts.clone(),
    });
    match settings {
        Some(settings) => Problems::new(reader.problems).or(settings),
        None => Err(Problems::new(reader.problems)),
    }
}

/// Reads values of one upstream, and collects the problems with them. A value with a problem is `None`.
struct Reader<'a> {
    upstream: &'a Upstream,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn refuse(&mut self, key: &str, at: &Text, says: impl fmt::Display, help: &str) {
        self.problems.push(problem(self.upstream, key, at, says, help));
    }

    fn base(&mut self) -> Option<Base> {
        let url = &self.upstream.url;
        let help = "write for example `url = \"https://registry.example.com/v2/library\"`";
        let refuse = |error| self.refuse("url", url, format_args!("is no address of an upstream: {error}"), help);
        Base::parse(url.as_str()).map_err(refuse).ok()
    }

    fn file(&mut self, key: &str, file: &NamedFile, most: u64) -> Option<Zeroizing<Vec<u8>>> {
        let read = diagnostics::read_plain(&file.path, most).map(Zeroizing::new);
        read.map_err(|error| {
            let says = format!("names {}, which cannot be read: {error}", file.path.display());
            self.refuse(key, &file.written, says, "name a file that the user of the server may read");
        })
        .ok()
    }

    /// Returns the text of a file without the line break at its end.
    fn password(&mut self, file: &NamedFile) -> Option<SecretString> {
        let bytes = self.file("password_file", file, LARGEST_PASSWORD)?;
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let password = str::from_utf8(line).ok().filter(|text| !text.is_empty());
        if password.is_none() {
            let says = format!("names {}, which has no password in UTF-8", file.path.display());
            self.refuse("password_file", &file.written, says, "write the password into the file");
        }
        password.map(SecretString::from)
    }
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
