//! Parses repository names: distribution spec, "Pulling manifests".

use std::{str::FromStr, sync::Arc};

/// A valid repository name, the specification's `<name>`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

/// The reason why a text is not a repository name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No characters at all.
    #[error("a repository name is not empty")]
    Empty,
    /// Longer than [`Name::MAX_LENGTH`].
    #[error("a repository name has at most {} characters", Name::MAX_LENGTH)]
    TooLong,
    /// A path component longer than [`Name::MAX_COMPONENT`].
    #[error("a part of a repository name between slashes has at most {} characters", Name::MAX_COMPONENT)]
    ComponentTooLong,
    /// A component that does not match the specification's expression.
    #[error(
        "each part of a repository name between slashes is lower-case letters and digits, separated by single '.' or '_', by '__', or by any number of '-'"
    )]
    Component,
}

impl Name {
    /// Longest name in characters. Clients limit `host/name` to 255, so a longer one could not be pulled anyway.
    pub const MAX_LENGTH: usize = 255;
    /// Longest component: with what storage puts behind it, it must stay within a file name's 255 bytes.
    pub const MAX_COMPONENT: usize = 230;

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn component_is_valid(component: &str) -> bool {
    // [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    alphanumeric(first)
        && alphanumeric(last)
        && bytes.split(|byte| alphanumeric(*byte)).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|byte| *byte == b'-')
        })
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > Self::MAX_LENGTH {
            return Err(NameError::TooLong);
        }
        for component in text.split('/') {
            if component.len() > Self::MAX_COMPONENT {
                return Err(NameError::ComponentTooLong);
            }
            if !component_is_valid(component) {
                return Err(NameError::Component);
            }
        }
        Ok(Self(text.into()))
    }
}

super::text_traits!(Name);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_follow_the_specification() {
        for good in ["a", "library/alpine", "a__b/c--d", "a.b", "a_b", "0/1/2", "a---b"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "/", "a/", "/a", "a//b", "A", "a..b", "a___b", "a._b", "-a", "a-", "a.", "_a", "ä", "a b", "a!"]
        {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
        assert_eq!("a".repeat(256).parse::<Name>(), Err(NameError::TooLong));
    }

    proptest! {
        #[test]
        fn each_text_that_the_expression_generates_parses(text in "[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,5}){0,3}(/[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,5}){0,3}){0,3}") {
            let name = text.parse::<Name>().unwrap();
            prop_assert_eq!(name.as_str(), text);
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".*") {
            let _ = text.parse::<Name>();
        }
    }
}
