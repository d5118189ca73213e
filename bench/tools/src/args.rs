//! `--key value` arguments, and the error every subcommand ends with.

use std::str::FromStr;

/// What stops a subcommand; printed as it is.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The arguments after the subcommand, in the order given; a key may come more than once.
pub struct Args(Vec<(String, String)>);

impl Args {
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut pairs = Vec::new();
        while let Some(word) = words.next() {
            let key = word.strip_prefix("--").ok_or_else(|| format!("expected --key, got {word:?}"))?;
            let value = words.next().ok_or_else(|| format!("--{key} needs a value"))?;
            pairs.push((key.to_owned(), value));
        }
        Ok(Self(pairs))
    }

    /// Every value given for `key`.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// The value of a key that must be there.
    pub fn text(&self, key: &str) -> Result<&str, Failure> {
        self.0
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
            .ok_or_else(|| format!("--{key} is missing").into())
    }

    /// The value of a key as a number, or `default` without it.
    pub fn number<T: FromStr>(&self, key: &str, default: T) -> Result<T, Failure> {
        match self.text(key) {
            Ok(value) => value.parse().map_err(|_| format!("--{key} {value:?} is not a number").into()),
            Err(_) => Ok(default),
        }
    }
}

/// The middle of the values (the upper one of two), 0 for none.
pub fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which the share `q` (0 to 1) of the values lies, 0 for none.
pub fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "figures to three digits")]
    let at = (values.len() as f64 * q) as usize;
    values.get(at.min(last)).copied().unwrap_or(0.0)
}
