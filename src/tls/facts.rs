//! Reads the facts of a certificate (RFC 5280), bounded.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::{
    asn1_rs::{Any, FromDer as _, Oid, Tag},
    certificate::X509Certificate,
    extensions::GeneralName,
    oid_registry::{OID_X509_COMMON_NAME, OID_X509_ORGANIZATION_NAME, OID_X509_ORGANIZATIONAL_UNIT},
    time::ASN1Time,
    x509::{AttributeTypeAndValue, X509Name},
};

use crate::identity::Certificate;

/// The most names of one kind that a client's certificate may have.
const MOST_NAMES: usize = 64;
/// The most bytes that each of them may have.
const LONGEST_NAME: usize = 1024;

/// Reads a certificate that stands alone: nothing may follow it.
pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err("bytes follow its end".to_owned()),
        Err(_) => Err("it is not an X.509 certificate".to_owned()),
    }
}

/// Returns the facts of a client's certificate for policies. The error names a part that is too large or cannot be
/// read. An unreadable name is not left out, since a rule that denies it would not see it.
pub(super) fn of(der: &CertificateDer<'_>) -> Result<Certificate, String> {
    let parsed = parse(der)?;
    let mut facts = Certificate {
        common_names: subject(&parsed, &OID_X509_COMMON_NAME, "common name")?,
        organizations: subject(&parsed, &OID_X509_ORGANIZATION_NAME, "organization")?,
        organizational_units: subject(&parsed, &OID_X509_ORGANIZATIONAL_UNIT, "organizational unit")?,
        serial: hex(significant(parsed.raw_serial())),
        fingerprint: hex(&Sha256::digest(der)),
        not_before: rfc3339(parsed.validity().not_before),
        not_after: rfc3339(parsed.validity().not_after),
        issuer_and_subject: format!("{};{}", name(parsed.issuer()), name(parsed.subject())),
        ..Certificate::default()
    };
    let names = parsed.subject_alternative_name().map_err(|_| "its subjectAltName cannot be read".to_owned())?;
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::DNSName(name) => add(&mut facts.dns_names, (*name).to_owned(), "DNS name")?,
            GeneralName::URI(name) => add(&mut facts.uris, (*name).to_owned(), "URI")?,
            GeneralName::Invalid(..) => return Err("a name of its subjectAltName cannot be read".to_owned()),
            _ => {}
        }
    }
    Ok(facts)
}

/// Returns the values of one attribute of the subject, of all its relative distinguished names.
fn subject(certificate: &X509Certificate<'_>, oid: &Oid<'_>, kind: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for attribute in certificate.subject().iter_attributes().filter(|attribute| attribute.attr_type() == oid) {
        let name = text(attribute.attr_value()).ok_or_else(|| format!("a {kind} of it cannot be read"))?;
        add(&mut names, name, kind)?;
    }
    Ok(names)
}

/// Writes a distinguished name in the way of RFC 4514, but in the certificate's order. Different names have different
/// texts.
pub(super) fn name(name: &X509Name<'_>) -> String {
    let relative = name.iter_rdn().map(|relative| relative.iter().map(attribute).collect::<Vec<_>>().join("+"));
    relative.collect::<Vec<_>>().join(",")
}

/// Writes a kind of name and its value.
fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let short = [(OID_X509_COMMON_NAME, "CN"), (OID_X509_ORGANIZATION_NAME, "O"), (OID_X509_ORGANIZATIONAL_UNIT, "OU")];
    let (oid, value) = (attribute.attr_type(), attribute.attr_value());
    let short = short.into_iter().find(|(known, _)| known == oid);
    let mut written = short.map_or_else(|| oid.to_id_string(), |(_, short)| short.to_owned());
    written.push('=');
    match text(value) {
        Some(text) => {
            for character in text.chars() {
                // hex for characters that separate names or begin an escape
                if character.is_control() || ",+;#\"<>\\".contains(character) {
                    let mut bytes = [0; 4];
                    let escaped = hex(character.encode_utf8(&mut bytes).as_bytes());
                    escaped.as_bytes().chunks(2).for_each(|byte| {
                        written.push('\\');
                        written.extend(byte.iter().copied().map(char::from));
                    });
                } else {
                    written.push(character);
                }
            }
        }
        None => written.extend(["#", &hex(&value.tag().0.to_be_bytes()), &hex(value.data)]),
    }
    written
}

fn add(names: &mut Vec<String>, name: String, kind: &str) -> Result<(), String> {
    if name.len() > LONGEST_NAME {
        return Err(format!("a {kind} of it has more than {LONGEST_NAME} bytes"));
    }
    if names.len() == MOST_NAMES {
        return Err(format!("it has more than {MOST_NAMES} values of {kind}"));
    }
    names.push(name);
    Ok(())
}

/// Reads a `DirectoryString` (RFC 5280, section 4.1.2.4), or an `IA5String` or `NumericString` in its place.
fn text(value: &Any<'_>) -> Option<String> {
    let bytes = value.data;
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString => {
            str::from_utf8(bytes).ok().map(str::to_owned)
        }
        // T.61 has several readings; they agree on ASCII.
        Tag::TeletexString => bytes.is_ascii().then(|| String::from_utf8_lossy(bytes).into_owned()),
        Tag::BmpString => {
            let (units, rest) = bytes.as_chunks::<2>();
            rest.is_empty().then(|| {
                char::decode_utf16(units.iter().map(|unit| u16::from_be_bytes(*unit))).collect::<Result<_, _>>().ok()
            })?
        }
        Tag::UniversalString => {
            let (units, rest) = bytes.as_chunks::<4>();
            rest.is_empty().then(|| units.iter().map(|unit| char::from_u32(u32::from_be_bytes(*unit))).collect())?
        }
        _ => None,
    }
}

/// Returns an INTEGER without the zero bytes that only mark it as not negative.
pub(super) fn significant(integer: &[u8]) -> &[u8] {
    let zeros = integer.iter().take_while(|byte| **byte == 0).count();
    &integer[zeros.min(integer.len().saturating_sub(1))..]
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

/// Formats a time in UTC, to the second. The code is our own, since RFC 5280 has a year, 9999, whose last hours
/// libraries may not have.
pub(super) fn rfc3339(time: ASN1Time) -> String {
    let t = time.to_datetime();
    let (year, month, day) = (t.year(), u8::from(t.month()), t.day());
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", t.hour(), t.minute(), t.second())
}

/// Converts a time; a time before 1970 becomes 1970.
pub(super) fn moment(time: ASN1Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}
