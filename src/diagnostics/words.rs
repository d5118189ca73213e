//! Finds the word that a misspelt one was meant as, and writes lists of words and paths of keys.

/// Returns the candidate that `word` is most likely a misspelling of, if any is close. At most a third of its letters, and
/// at least one, are inserted, left out, replaced or swapped with their neighbour. Upper and lower case are one.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (distance(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Counts the letters inserted, left out, replaced or swapped with their neighbour between two words (the distance of
/// optimal string alignment). Looks at the first 64 letters of each, since the time grows with the product of the lengths.
pub(super) fn distance(left: &str, right: &str) -> usize {
    let beginning = |text: &str| text.chars().take(64).collect::<String>();
    strsim::osa_distance(&beginning(left), &beginning(right))
}

/// Writes words as a sentence lists them: `"a", "b" or "c"`.
pub(crate) fn listed<'a>(words: impl IntoIterator<Item = &'a str>, quote: char) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| format!("{quote}{word}{quote}")).collect();
    match quoted.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => quoted.concat(),
    }
}

/// Returns the fault of a regular expression, without the drawing around it.
pub(crate) fn pattern_fault(error: &regex::Error) -> String {
    let message = error.to_string();
    let last = message.lines().last().unwrap_or_default().trim();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// Writes the path of a key as in a file. Parts that are no bare keys are quoted.
pub(crate) fn joined<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let quote = |part: &str| match part {
        bare if !bare.is_empty() && bare.chars().all(is_bare) => bare.to_owned(),
        part => format!("{part:?}"),
    };
    parts.into_iter().map(quote).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suggestion_is_a_word_that_is_close() {
        assert_eq!(nearest("usrname", ["username", "groups"]), Some("username"));
        assert_eq!(nearest("zebra", ["username", "groups"]), None);
    }
}
