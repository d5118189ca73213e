//! Reads PEM files (RFC 7468). Each holds exactly the kind of thing that its key of the configuration is for.

use std::path::Path;

use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
    pem::{self, PemObject, SectionKind},
};
use zeroize::Zeroizing;

use super::error::Problem;
use crate::diagnostics;

/// The largest file, in bytes. Revocation lists are long.
const LARGEST: u64 = 64 << 20;

/// The purpose of a file.
struct Kind {
    /// The name in errors.
    name: &'static str,
    /// The labels that make it up, most usual first.
    labels: &'static [&'static str],
    /// Labels that may stand beside them and say nothing.
    ignored: &'static [&'static str],
}

const CERTIFICATES: Kind = Kind { name: "certificate", labels: &["CERTIFICATE"], ignored: &[] };
const LISTS: Kind = Kind { name: "revocation list", labels: &["X509 CRL"], ignored: &[] };
const KEYS: Kind = Kind {
    name: "private key",
    labels: &["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"],
    // OpenSSL writes the name of the curve before a key in its older form, which says it again.
    ignored: &["EC PARAMETERS"],
};

/// A file, with its key of `[server.tls]`.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    /// The key without `server.tls.`.
    pub(super) key: &'static str,
    pub(super) file: &'a Path,
}

impl Source<'_> {
    /// `says` goes on where the name of the file ends.
    pub(super) fn problem(self, says: impl std::fmt::Display, help: impl Into<String>) -> Problem {
        Problem::of_file(self.key, self.file, says, help)
    }

    /// Returns all certificates, at least one, in the order of the file.
    pub(super) fn certificates(self) -> Result<Vec<CertificateDer<'static>>, Problem> {
        self.read(&CERTIFICATES)
    }

    /// Returns all revocation lists, at least one.
    pub(super) fn lists(self) -> Result<Vec<CertificateRevocationListDer<'static>>, Problem> {
        self.read(&LISTS)
    }

    /// Returns the one private key.
    pub(super) fn private_key(self) -> Result<PrivateKeyDer<'static>, Problem> {
        let mut keys = self.read::<PrivateKeyDer<'static>>(&KEYS)?;
        match (keys.pop(), keys.is_empty()) {
            (Some(key), true) => Ok(key),
            _ => Err(self.problem(
                "holds more than one private key",
                "leave the one that belongs to the first certificate of server.tls.server_certificate_bundle",
            )),
        }
    }

    fn read<T: PemObject>(self, kind: &Kind) -> Result<Vec<T>, Problem> {
        let text = diagnostics::read_plain(self.file, LARGEST).map(Zeroizing::new).map_err(|error| {
            self.problem(
                format_args!("cannot be read: {error}"),
                "name a file that exists and that the user of this process may read",
            )
        })?;
        let expected = self.check_labels(kind, &text)?;
        let items: Result<Vec<(SectionKind, Vec<u8>)>, pem::Error> = PemObject::pem_slice_iter(&text).collect();
        let items = items.map_err(|error| self.broken(kind, &error, &text))?;
        let items: Vec<T> = items.into_iter().filter_map(|(label, der)| T::from_pem(label, der)).collect();
        // A section that begins inside of another one makes one of the two.
        if items.len() == expected {
            Ok(items)
        } else {
            Err(self.problem("has a section that does not end before the next begins", copied_whole(kind)))
        }
    }

    /// Returns the number of sections of this kind. It is an error if there is none, or any of another kind.
    fn check_labels(self, kind: &Kind, text: &[u8]) -> Result<usize, Problem> {
        let mut count = 0;
        for label in labels(text) {
            if kind.labels.contains(&label.as_str()) {
                count += 1;
            } else if label == "ENCRYPTED PRIVATE KEY" && kind.name == KEYS.name {
                return Err(self.encrypted());
            } else if !kind.ignored.contains(&label.as_str()) {
                let says = format!("holds a `{label}`, where only a `{}` belongs", kind.labels.join("` or a `"));
                return Err(self.problem(says, "take it out, or name another file"));
            }
        }
        if count > 0 {
            return Ok(count);
        }
        let help = match (text.first(), kind.name) {
            // DER begins with a SEQUENCE (X.690).
            (Some(0x30), "certificate") => {
                "it may be DER; `openssl x509 -inform der -in FILE -out NEW` makes PEM of it".to_owned()
            }
            (Some(0x30), "revocation list") => {
                "it may be DER; `openssl crl -inform der -in FILE -out NEW` makes PEM of it".to_owned()
            }
            (Some(0x30), _) => "it may be DER; `openssl pkey -inform der -in FILE -out NEW` makes PEM of it".to_owned(),
            _ => format!("name a PEM file with a line `-----BEGIN {}-----`", kind.labels[0]),
        };
        Err(self.problem(format_args!("holds no {}", kind.name), help))
    }

    /// Makes a problem of the kind of the library's error alone, since the library may quote a part of a key.
    fn broken(self, kind: &Kind, error: &pem::Error, text: &[u8]) -> Problem {
        if kind.name == KEYS.name && text.windows(10).any(|window| window == b"Proc-Type:") {
            return self.encrypted();
        }
        let says = match error {
            pem::Error::MissingSectionEnd { .. } => "is cut off: a section has no end",
            pem::Error::IllegalSectionStart { .. } => "has a section whose first line does not end in five hyphens",
            pem::Error::Base64Decode(_) => "has a section that is not base64",
            pem::Error::SectionTooLarge => "has a section of more than 256 MiB",
            _ => "is not PEM",
        };
        self.problem(says, copied_whole(kind))
    }

    fn encrypted(self) -> Problem {
        self.problem(
            "is encrypted with a passphrase, and nobody is there to type it when the server starts",
            "`openssl pkey -in FILE -out NEW` writes the key without; keep it readable by the user of this process alone",
        )
    }
}

fn copied_whole(kind: &Kind) -> String {
    format!("copy the {} again, whole, from its first `-----BEGIN` to its last `-----END`", kind.name)
}

/// Returns the labels of all sections, known or not, in the order of the file.
fn labels(text: &[u8]) -> impl Iterator<Item = String> {
    text.split(|byte| matches!(byte, b'\n' | b'\r')).filter_map(|line| {
        let label =
            String::from_utf8_lossy(line.strip_prefix(b"-----BEGIN ")?).trim_end().trim_end_matches('-').to_owned();
        // A line without its hyphens would be a whole line of whatever the file holds.
        Some(label.chars().take(40).collect())
    })
}
