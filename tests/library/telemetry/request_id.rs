//! Request ids: the client's where they are acceptable, fresh ones otherwise.

use std::collections::HashSet;

use http::HeaderValue;
use simple_registry::telemetry::RequestId;

fn taken(id: &str) -> RequestId {
    RequestId::from_header(Some(&HeaderValue::from_bytes(id.as_bytes()).unwrap()))
}

#[test]
fn an_acceptable_id_is_taken_as_it_is() {
    for id in ["a", "6f1c1c1e-2f0a-4f52-9c59-0b6b3f0f5a53", "Az09._:/+=-", &"x".repeat(128)] {
        assert_eq!(taken(id).as_str(), id);
        assert_eq!(taken(id).to_string(), id);
        assert_eq!(taken(id).to_header(), id);
    }
}

#[test]
fn any_other_id_is_replaced_by_a_fresh_one() {
    for id in ["", " ", "a b", "a,b", "\"a\"", "<a>", "a;b", "é", "a\tb", "{}", "%0a", &"x".repeat(129)] {
        assert_fresh(&taken(id));
    }
    assert_fresh(&RequestId::from_header(None));
}

#[test]
fn fresh_ids_differ() {
    let ids: HashSet<_> = (0..10_000).map(|_| RequestId::fresh()).collect();
    assert_eq!(ids.len(), 10_000);
}

/// Checks that an id is a version 4 UUID as text (RFC 9562, sections 4 and 5.4).
fn assert_fresh(id: &RequestId) {
    let id = id.as_str();
    assert_eq!(id.len(), 36, "{id}");
    for (position, character) in id.char_indices() {
        let fits = match position {
            8 | 13 | 18 | 23 => character == '-',
            14 => character == '4',
            19 => "89ab".contains(character),
            _ => character.is_ascii_digit() || ('a'..='f').contains(&character),
        };
        assert!(fits, "{id} at {position}");
    }
}
