//! Numbers in messages for people.

/// Returns a number with its noun, which is given for one thing: "1 copy", "2 copies".
#[must_use]
pub fn counted(number: u64, noun: &str) -> String {
    match noun.strip_suffix('y') {
        _ if number == 1 => format!("1 {noun}"),
        Some(stem) if !stem.ends_with(['a', 'e', 'i', 'o', 'u']) => format!("{number} {stem}ies"),
        _ => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noun_agrees_with_its_number() {
        let said = |noun| [0, 1, 2].map(|number| counted(number, noun));
        assert_eq!(said("manifest"), ["0 manifests", "1 manifest", "2 manifests"]);
        assert_eq!(said("repository"), ["0 repositories", "1 repository", "2 repositories"]);
        assert_eq!(said("key"), ["0 keys", "1 key", "2 keys"]);
    }
}
