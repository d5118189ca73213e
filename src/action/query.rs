//! Reads the query of a request.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::{ActionError, Page};
use crate::oci::Tag;

/// The most parameters of a query: the tags of a push, and others.
const MAX_PARAMETERS: usize = MAX_TAGS + 28;
/// The longest parameter, as it is sent, in bytes.
const LONGEST_PARAMETER: usize = 8192;

/// The most tags that one manifest `PUT` may set.
pub const MAX_TAGS: usize = 100;

pub(super) struct Query<'a>(pub(super) &'a str);

impl<'a> Query<'a> {
    /// Takes the query of a request, if it has no more and no longer parameters than any request needs.
    pub(super) fn new(text: &'a str) -> Result<Self, ActionError> {
        if text.split('&').count() > MAX_PARAMETERS {
            return Err(ActionError::TooManyParameters);
        }
        match text.split('&').find(|pair| pair.len() > LONGEST_PARAMETER) {
            Some(_) => Err(ActionError::LongParameter),
            None => Ok(Self(text)),
        }
    }

    fn pairs(&self, wanted: &'static str) -> impl Iterator<Item = Result<Cow<'a, str>, ActionError>> {
        self.0.split('&').filter_map(move |pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name == wanted).then(|| decode(value, wanted))
        })
    }

    /// Returns true if a parameter is given.
    pub(super) fn has(&self, name: &'static str) -> bool {
        self.pairs(name).next().is_some()
    }

    /// Returns the value of a parameter that may be given once.
    pub(super) fn get(&self, name: &'static str) -> Result<Option<Cow<'a, str>>, ActionError> {
        let mut values = self.pairs(name);
        let value = values.next().transpose()?;
        // two values of one parameter could mean one thing to a policy and another to the registry
        if values.next().is_some() {
            return Err(ActionError::Query { name, rule: "it is given twice" });
        }
        Ok(value)
    }

    /// Returns `n` and `last`.
    pub(super) fn page<T>(&self, parse: impl FnOnce(&str) -> Result<T, ActionError>) -> Result<Page<T>, ActionError> {
        let rule = "it is a number of entries, written in decimal digits";
        let n = match self.get("n")?.filter(|n| !n.is_empty()) {
            None => None,
            Some(n) if n.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(n.parse().unwrap_or(usize::MAX)) // more than can be counted is all of them
            }
            Some(_) => return Err(ActionError::Query { name: "n", rule }),
        };
        let last = self.get("last")?.filter(|last| !last.is_empty()).map(|last| parse(&last)).transpose()?;
        Ok(Page { n, last })
    }

    /// Returns every `tag`, each once.
    pub(super) fn tags(&self) -> Result<Vec<Tag>, ActionError> {
        let mut tags: Vec<Tag> = Vec::new();
        for tag in self.pairs("tag") {
            let text = tag?;
            let tag = text.parse::<Tag>().map_err(|error| ActionError::from(error).about(&text))?;
            if !tags.contains(&tag) {
                tags.push(tag);
            }
            if tags.len() > MAX_TAGS {
                return Err(ActionError::Query { name: "tag", rule: "at most 100 tags in one request" });
            }
        }
        Ok(tags)
    }
}

/// Decodes a percent-encoded text, which an error calls `what`.
pub(super) fn decode<'a>(text: &'a str, what: &'static str) -> Result<Cow<'a, str>, ActionError> {
    percent_decode_str(text).decode_utf8().map_err(|_| ActionError::Encoding(what))
}
