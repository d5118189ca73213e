//! Hashes passwords, and compares them with hashes.

use argon2::password_hash::phc::{Output, PasswordHash, Salt};
use argon2::{Argon2, PasswordHasher as _, PasswordVerifier as _};
use bcrypt::{HashParts, Version};
use rand::RngCore as _;
use subtle::ConstantTimeEq as _;

use crate::config::check_password_hash;

/// The longest password, in bytes.
pub const LONGEST_PASSWORD: usize = 1024;
/// The number of bytes of a password that bcrypt reads.
const BCRYPT_READS: usize = 72;

/// The reason why a password cannot be hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The password is empty.
    #[error("the password is empty")]
    Empty,
    /// The password is longer than [`LONGEST_PASSWORD`].
    #[error("the password is longer than {LONGEST_PASSWORD} bytes")]
    TooLong,
    /// The password has characters that HTTP's Basic scheme cannot send (RFC 7617, section 2).
    #[error("the password has a control character in it, such as a line break or a tab, which no client can send")]
    Control,
    /// There is no memory for it.
    #[error("the password cannot be hashed: {0}")]
    Argon2(argon2::password_hash::Error),
}

/// Hashes a password, with a salt of its own, as an argon2id PHC string with 19 MiB and two passes, which the OWASP
/// Password Storage Cheat Sheet recommends. Takes some 20 milliseconds.
pub fn hash_password(password: &str) -> Result<String, HashError> {
    if password.is_empty() {
        return Err(HashError::Empty);
    }
    if password.len() > LONGEST_PASSWORD {
        return Err(HashError::TooLong);
    }
    if password.contains(char::is_control) {
        return Err(HashError::Control);
    }
    let hash = Argon2::default().hash_password(password.as_bytes()).map_err(HashError::Argon2)?;
    Ok(hash.to_string())
}

/// The hash of a password. It is less secret than the password, and is not shown either.
#[derive(Clone)]
pub(super) enum Hash {
    Argon2(Box<PasswordHash>),
    /// `text` is the whole hash in one spelling of its version, which says nothing about how it is made.
    Bcrypt {
        cost: u32,
        salt: [u8; 16],
        text: String,
    },
}

/// The verification itself failed, for want of memory most likely.
#[derive(Debug)]
pub(super) struct CannotVerify;

impl Hash {
    /// Reads what `[identity.<id>] password` has.
    ///
    /// # Errors
    /// The broken rule, in words that follow the name of the key.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        const BROKEN: &str = "is not a hash of a password";
        check_password_hash(text)?;
        if text.starts_with("$argon2") {
            return PasswordHash::new(text).map(|hash| Self::Argon2(Box::new(hash))).map_err(|_| BROKEN);
        }
        let parts: HashParts = text.parse().map_err(|_| BROKEN)?;
        Ok(Self::Bcrypt { cost: parts.get_cost(), salt: parts.get_salt_raw(), text: spelt(&parts) })
    }

    /// Returns about how many microseconds a verification takes, to compare hashes.
    pub(super) fn work(&self) -> u64 {
        match self {
            // a KiB of memory in one pass takes half a microsecond
            Self::Argon2(hash) => {
                let param = |name: &str| u64::from(hash.params.get_decimal(name).unwrap_or(1));
                param("m") * param("t") / 2
            }
            Self::Bcrypt { cost, .. } => 60 << cost.min(&32),
        }
    }

    /// Returns a hash of the same cost that no password has.
    pub(super) fn dummy(&self) -> Self {
        let mut random = [0; 64];
        rand::rng().fill_bytes(&mut random);
        match self {
            Self::Argon2(hash) => {
                let mut hash = hash.clone();
                let like = |length: Option<usize>| &random[..length.unwrap_or_default().min(random.len())];
                hash.salt = Salt::new(like(hash.salt.as_ref().map(|salt| salt.len()))).ok();
                hash.hash = Output::new(like(hash.hash.as_ref().map(Output::len))).ok();
                Self::Argon2(hash)
            }
            Self::Bcrypt { cost, text, .. } => {
                let mut salt = [0; 16];
                salt.copy_from_slice(&random[..16]);
                // as long as a hash, and not one
                Self::Bcrypt { cost: *cost, salt, text: "-".repeat(text.len()) }
            }
        }
    }

    /// Checks a password against the hash. Blocks for about the time of [`Hash::work`].
    pub(super) fn verify(&self, password: &[u8]) -> Result<bool, CannotVerify> {
        match self {
            Self::Argon2(hash) => match Argon2::default().verify_password(password, hash.as_ref()) {
                Ok(()) => Ok(true),
                Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
                Err(_) => Err(CannotVerify),
            },
            Self::Bcrypt { cost, salt, text } => {
                // bcrypt would not see what is behind its 72 bytes: any two passwords that begin alike would be one.
                let whole = password.len() <= BCRYPT_READS;
                let read = &password[..password.len().min(BCRYPT_READS)];
                let parts = bcrypt::hash_with_salt(read, *cost, *salt).map_err(|_| CannotVerify)?;
                Ok(bool::from(spelt(&parts).as_bytes().ct_eq(text.as_bytes())) && whole)
            }
        }
    }
}

fn spelt(parts: &HashParts) -> String {
    parts.format_for_version(Version::TwoB)
}
