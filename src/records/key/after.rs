//! Builds the key after which a listing has the names after any text.

use super::{LAST, Prefix};
use crate::oci::{Name, Tag};

/// Returns the key after which a listing of the catalog has the repositories whose names sort after a text.
#[must_use]
pub fn after_catalog_text(text: &str) -> String {
    after(Prefix::Catalog, text, Name::MAX_LENGTH)
}

/// Returns the key after which a listing has the tags that sort after a text.
#[must_use]
pub fn after_tag_text(name: &Name, text: &str) -> String {
    after(Prefix::Tags(name), text, Tag::MAX_LENGTH)
}

/// Returns the key after which a listing has the names after `text`. A name ends in `!` there, which sorts before all
/// characters of names. So what counts of a text ends at the first character that no key has, and at the length of the
/// longest name.
fn after(prefix: Prefix<'_>, text: &str, longest: usize) -> String {
    let is_of_names = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-' | '/');
    let longest = text.floor_char_boundary(longest);
    let other = text[..longest].char_indices().find(|(_, letter)| !is_of_names(*letter));
    let end = other.map_or(longest, |(at, _)| at);
    let rest = match other {
        // all names that go on from here sort after such a character, or none do
        Some((_, letter)) if letter <= '!' => format!("!{LAST}"),
        Some((_, letter)) if letter.is_ascii_graphic() => letter.to_string(),
        Some(_) => LAST.to_string(),
        None => format!("!{LAST}"),
    };
    format!("{prefix}{}{rest}", &text[..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_listing_after_any_text_has_exactly_the_names_that_sort_after_it(
            text in prop_oneof!["[ -~]{0,6}", "[a-c./_-]{0,6}", "[a-cA\u{e9}\u{1f}!~/]{0,4}"],
            name in "[a-c]{1,3}((\\.|_|-|/)[a-c]{1,3}){0,2}",
            other in "[a-cA-C0_][a-cA-C0._-]{0,3}",
        ) {
            let name: Name = name.parse().unwrap();
            let is_listed = format!("{}0", Prefix::CatalogOf(&name)) > after_catalog_text(&text);
            prop_assert_eq!(is_listed, name.as_str() > text.as_str(), "{} after {:?}", name, text);
            let other: Tag = other.parse().unwrap();
            let is_listed = format!("{}0", Prefix::Tag(&name, &other)) > after_tag_text(&name, &text);
            prop_assert_eq!(is_listed, other.as_str() > text.as_str(), "{} after {:?}", other, text);
        }
    }
}
