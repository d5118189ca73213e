//! The limits of a token.

use proptest::prelude::*;
use simple_registry::action::{ACTIONS, Action, Scope};
use simple_registry::credentials::{ScopeError, Scopes, scope_needed};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn parse(values: &[&str]) -> Result<Scopes, ScopeError> {
    Scopes::parse(values.iter().copied())
}

/// Returns every action on the repository `a/b`, and those on none, with the scope that is asked for before the action.
fn actions() -> Vec<(Action, Option<&'static str>)> {
    const PULL: &str = "repository:a/b:pull";
    const PUSH: &str = "repository:a/b:pull,push";
    const DELETE: &str = "repository:a/b:delete";
    let upload = "/v2/a/b/blobs/uploads/6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
    let digest = |path: &str| format!("/v2/a/b/{path}/{DIGEST}");
    let all = [
        ("GET", "/v2/".to_owned(), String::new(), None),
        ("GET", "/v2/_catalog".to_owned(), String::new(), Some("registry:catalog:*")),
        ("GET", "/v2/a/b/tags/list".to_owned(), String::new(), Some(PULL)),
        ("GET", "/v2/a/b/manifests/v1".to_owned(), String::new(), Some(PULL)),
        ("HEAD", "/v2/a/b/manifests/v1".to_owned(), String::new(), Some(PULL)),
        ("GET", digest("referrers"), String::new(), Some(PULL)),
        ("GET", digest("blobs"), String::new(), Some(PULL)),
        ("PUT", "/v2/a/b/manifests/v1".to_owned(), String::new(), Some(PUSH)),
        ("POST", "/v2/a/b/blobs/uploads/".to_owned(), String::new(), Some(PUSH)),
        (
            "POST",
            "/v2/a/b/blobs/uploads/".to_owned(),
            format!("mount={DIGEST}&from=c"),
            Some("repository:a/b:pull,push repository:c:pull"),
        ),
        ("POST", "/v2/a/b/blobs/uploads/".to_owned(), format!("mount={DIGEST}&from=a/b"), Some(PUSH)),
        ("POST", "/v2/a/b/blobs/uploads/".to_owned(), format!("mount={DIGEST}"), Some(PUSH)),
        ("GET", upload.to_owned(), String::new(), Some(PUSH)),
        ("PATCH", upload.to_owned(), String::new(), Some(PUSH)),
        ("PUT", upload.to_owned(), format!("digest={DIGEST}"), Some(PUSH)),
        ("DELETE", upload.to_owned(), String::new(), Some(PUSH)),
        ("DELETE", "/v2/a/b/manifests/v1".to_owned(), String::new(), Some(DELETE)),
        ("DELETE", digest("blobs"), String::new(), Some(DELETE)),
    ];
    let parse = |(method, path, query, scope): (&str, String, String, Option<&'static str>)| {
        (Action::parse(method, &path, Some(&query)).unwrap_or_else(|error| panic!("{method} {path}: {error}")), scope)
    };
    all.map(parse).into()
}

#[test]
fn a_scope_that_is_asked_for_is_enough() {
    for (action, scope) in actions() {
        assert_eq!(scope_needed(&action, action.name()).as_deref(), scope, "{action:?}");
        let scopes = parse(&[scope.unwrap_or_default()]).unwrap();
        assert!(scopes.covers(&action), "{scopes} does not cover {action:?}");
    }
}

#[test]
fn every_action_about_the_registry_has_a_scope_of_its_own() {
    for row in ACTIONS.iter().filter(|row| !row.is_about_repository()) {
        let action = Action::parse("GET", row.path, None).unwrap();
        let scope = scope_needed(&action, action.name());
        let named = match row.scope {
            Scope::Registry(name) => Some(format!("registry:{name}:*")),
            _ => None,
        };
        assert_eq!(scope, named, "{}", row.word);
        let scopes = parse(&[scope.as_deref().unwrap_or_default()]).unwrap();
        assert_eq!(scopes.to_string(), scope.unwrap_or_default(), "{}", row.word);
        assert!(scopes.covers(&action), "{}", row.word);
    }
}

#[test]
fn a_scope_covers_nothing_else() {
    let of = |text: &str| {
        let scopes = parse(&[text]).unwrap();
        let covered = actions().into_iter().filter(|(action, _)| scopes.covers(action));
        let mut needed: Vec<&str> = covered.filter_map(|(_, scope)| scope).collect();
        needed.dedup();
        needed
    };
    assert_eq!(of("repository:a/b:pull"), ["repository:a/b:pull"]);
    assert_eq!(of("repository:a/b:push"), ["repository:a/b:pull,push"]);
    assert_eq!(of("repository:a/b:delete"), ["repository:a/b:delete"]);
    assert_eq!(of("repository:a/b:*"), ["repository:a/b:pull", "repository:a/b:pull,push", "repository:a/b:delete"]);
    assert_eq!(of("registry:catalog:*"), ["registry:catalog:*"]);
    let none = ["", "repository:a:*", "repository:a/b/c:*", "repository:a/b:admin", "registry:catalog:pull"];
    for scope in none.into_iter().chain(["registry:metrics:*", "registry:a/b:*", "artifact:a/b:*", "repository:a/b:"]) {
        assert!(of(scope).is_empty(), "{scope}");
    }
}

#[test]
fn scopes_are_written_in_many_ways() {
    let shown = |values: &[&str]| parse(values).unwrap().to_string();
    assert_eq!(shown(&["repository:b:push,pull", "repository:a:pull"]), "repository:a:pull repository:b:pull,push");
    assert_eq!(shown(&["repository:b:pull repository:a:pull "]), "repository:a:pull repository:b:pull");
    assert_eq!(shown(&["repository:a:pull", "repository:a:push"]), "repository:a:pull,push");
    assert_eq!(shown(&["repository(plugin):a:pull"]), "repository:a:pull");
    assert_eq!(shown(&["repository:a:*"]), "repository:a:pull,push,delete");
    assert_eq!(shown(&["registry:catalog:*", "repository:a:pull,what"]), "registry:catalog:* repository:a:pull");
    assert_eq!(shown(&["", " "]), "");
    assert!(parse(&["", "robot:a:pull"]).unwrap().is_empty());
}

#[test]
fn what_is_no_scope_is_left_out() {
    for scope in ["pull", "repository:a", "repository", "repository::pull"] {
        assert_eq!(parse(&[scope, "repository:b:pull"]).unwrap().to_string(), "repository:b:pull", "{scope}");
    }
    for name in ["localhost:5000/a", "example.com:443/a/b", "A", "a//b", "../a", "a b"] {
        let scope = format!("repository:{name}:pull");
        assert!(parse(&[&scope]).unwrap().is_empty(), "{scope}");
    }
    let many = |count: usize| (0..count).map(|n| format!("repository:a{n}:pull")).collect::<Vec<_>>().join(" ");
    assert!(parse(&[&many(100)]).is_ok());
    assert_eq!(parse(&[&many(101)]), Err(ScopeError::TooMany));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(values in prop::collection::vec(any::<String>(), 0..4)) {
        let _ = Scopes::parse(values.iter().map(String::as_str));
    }

    #[test]
    fn what_is_written_is_read_again(
        scopes in prop::collection::vec(
            ("(repository|repository\\(plugin\\)|registry|other)", "[a-c]{1,2}(/[a-c])?|catalog|metrics|A|", "(pull|push|delete|\\*|x|,){0,4}"),
            0..6,
        ),
    ) {
        let text: Vec<String> = scopes.iter().map(|(kind, name, actions)| format!("{kind}:{name}:{actions}")).collect();
        if let Ok(scopes) = Scopes::parse(text.iter().map(String::as_str)) {
            let again = Scopes::parse([scopes.to_string().as_str()].into_iter());
            prop_assert_eq!(again, Ok(scopes));
        }
    }
}
