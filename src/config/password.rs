//! Checks hashes of passwords.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Params, Version};
use bcrypt::HashParts;

/// Bytes of a hash as text.
const LONGEST: usize = 512;
/// The most that one argon2 hash may cost: KiB of memory ...
const MOST_MEMORY: u32 = 1 << 20;
/// ... and KiB of memory times passes over it: some seconds of one core.
const MOST_WORK: u64 = 1 << 22;
/// The costs of bcrypt: no implementation takes less, and each more than 17 doubles what is seconds already.
const COSTS: std::ops::RangeInclusive<u32> = 4..=17;

/// Checks that a text is a hash of a password that can be verified: an argon2 PHC string (`$argon2id$v=19$m=...`), or
/// bcrypt (`$2a$`, `$2b$`, `$2y$`), and no hash that takes seconds.
///
/// # Errors
/// The broken rule, in words that follow the name of the key. They leave out the text, which may be a password.
pub fn check_password_hash(text: &str) -> Result<(), &'static str> {
    if text.len() > LONGEST {
        Err("is too long to be a hash of a password")
    } else if text.starts_with("$argon2") {
        check_argon2(text)
    } else if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
        let parts: HashParts = text.parse().map_err(|_| "is not a whole bcrypt hash, which has 60 characters")?;
        let fits = COSTS.contains(&parts.get_cost());
        fits.then_some(()).ok_or("is a bcrypt hash of another cost than 4 to 17")
    } else if text.starts_with("$apr1$") || text.starts_with("{SHA}") || text.starts_with("$1$") {
        Err("is a hash of a kind that is easily broken; argon2 and bcrypt (`htpasswd -B`) are accepted")
    } else {
        Err("is not a hash of a password: an argon2 PHC string, or bcrypt")
    }
}

fn check_argon2(text: &str) -> Result<(), &'static str> {
    const BROKEN: &str = "is not a whole argon2 PHC string, such as `$argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>`";
    let hash = PasswordHash::new(text).map_err(|_| BROKEN)?;
    let version = hash.version.ok_or(BROKEN)?;
    let has_all = ["m", "t", "p"].iter().all(|name| hash.params.get(*name).is_some());
    if hash.salt.is_none() || hash.hash.is_none() || !has_all {
        return Err(BROKEN);
    }
    Algorithm::try_from(hash.algorithm.as_str()).map_err(|_| BROKEN)?;
    Version::try_from(version).map_err(|_| BROKEN)?;
    let params = Params::try_from(&hash).map_err(|_| "is an argon2 hash with parameters that argon2 does not have")?;
    let work = u64::from(params.m_cost()) * u64::from(params.t_cost());
    if params.m_cost() > MOST_MEMORY || work > MOST_WORK {
        return Err("is an argon2 hash that takes more than 1 GiB, or seconds, to verify");
    }
    Ok(())
}
