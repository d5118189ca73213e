use proptest::prelude::*;

use super::*;

const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const ID: &str = "1b4e28ba-2fa1-41d2-883f-0016d3cca427";

fn parse(method: &str, uri: &str) -> Result<Action, ActionError> {
    let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
    Action::parse(method, path, query)
}

fn name_of(method: &str, uri: &str) -> (&'static str, Option<String>) {
    let action = parse(method, uri).unwrap_or_else(|error| panic!("{method} {uri}: {error}"));
    (action.as_str(), action.name().map(ToString::to_string))
}

#[test]
fn every_row_of_the_specification_has_its_action() {
    let a = || Some("a".to_owned());
    for (method, uri, action, name) in [
        ("GET", "/v2/".to_owned(), "get-api-version", None),
        ("GET", "/v2/_catalog?n=3&last=b".to_owned(), "list-catalog", None),
        ("GET", "/v2/a/tags/list?n=0".to_owned(), "list-tags", a()),
        ("GET", "/v2/a/tags/v1/history?n=2&last=17".to_owned(), "get-tag-history", a()),
        ("HEAD", format!("/v2/a/blobs/{D}"), "get-blob", a()),
        ("DELETE", format!("/v2/a/blobs/{D}"), "delete-blob", a()),
        ("GET", "/v2/a/manifests/latest".to_owned(), "get-manifest", a()),
        ("PUT", format!("/v2/a/manifests/{D}?tag=x&tag=y"), "put-manifest", a()),
        ("DELETE", "/v2/a/manifests/latest".to_owned(), "delete-manifest", a()),
        ("GET", format!("/v2/a/referrers/{D}?artifactType=x%2Fy"), "get-referrers", a()),
        ("POST", "/v2/a/blobs/uploads/".to_owned(), "start-upload", a()),
        ("POST", "/v2/a/blobs/uploads".to_owned(), "start-upload", a()),
        ("POST", format!("/v2/a/blobs/uploads/?digest={D}"), "start-upload", a()),
        ("POST", format!("/v2/a/blobs/uploads/?mount={D}&from=b"), "mount-blob", a()),
        ("GET", format!("/v2/a/blobs/uploads/{ID}"), "get-upload", a()),
        ("PATCH", format!("/v2/a/blobs/uploads/{ID}?state=4"), "update-upload", a()),
        ("PUT", format!("/v2/a/blobs/uploads/{ID}?state=4&digest={D}"), "complete-upload", a()),
        ("DELETE", format!("/v2/a/blobs/uploads/{ID}"), "cancel-upload", a()),
    ] {
        assert_eq!(name_of(method, &uri), (action, name), "{method} {uri}");
    }
}

#[test]
fn names_may_hold_the_words_of_the_api() {
    for name in ["tags", "a/manifests", "a/blobs/uploads", "blobs/uploads/x", "tags/list", "manifests/b/blobs"] {
        assert_eq!(name_of("GET", &format!("/v2/{name}/manifests/x")), ("get-manifest", Some(name.to_owned())));
        assert_eq!(name_of("GET", &format!("/v2/{name}/blobs/{D}")), ("get-blob", Some(name.to_owned())));
        assert_eq!(name_of("POST", &format!("/v2/{name}/blobs/uploads/")), ("start-upload", Some(name.to_owned())));
        assert_eq!(name_of("GET", &format!("/v2/{name}/tags/list")), ("list-tags", Some(name.to_owned())));
    }
}

#[test]
fn what_only_looks_like_a_tags_history_is_what_it_was() {
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(name_of("GET", "/v2/a/tags/manifests/history"), ("get-manifest", named("a/tags")));
    assert_eq!(name_of("GET", "/v2/a/tags/tags/history"), ("get-tag-history", named("a")));
    assert_eq!(name_of("GET", "/v2/a/tags/b/tags/list/history"), ("get-tag-history", named("a/tags/b")));
    assert_eq!(name_of("GET", "/v2/a/tags/history/tags/history/history"), ("get-tag-history", named("a/tags/history")));
    assert_eq!(parse("GET", "/v2/a/tags/b/c/history"), Err(ActionError::NotFound));
    assert_eq!(parse("GET", "/v2/tags/v1/history"), Err(ActionError::NotFound));
    assert!(matches!(parse("DELETE", "/v2/a/tags/v1/history"), Err(ActionError::Method { allow: "GET, HEAD", .. })));
    assert!(matches!(parse("GET", "/v2/a/tags/.v/history"), Err(ActionError::Tag(_))));
    assert!(matches!(parse("GET", "/v2/a/tags/v/history?last=v1"), Err(ActionError::Query { name: "last", .. })));
}

#[test]
fn what_is_wrong_is_named() {
    assert_eq!(parse("GET", "/v1/"), Err(ActionError::NotFound));
    assert_eq!(parse("GET", "/v2x"), Err(ActionError::NotFound));
    assert!(matches!(parse("GET", "/v2/A/manifests/x"), Err(ActionError::Name(_))));
    assert!(matches!(parse("GET", "/v2/a/manifests/.x"), Err(ActionError::Tag(_))));
    assert!(matches!(parse("GET", "/v2/a/manifests/sha256:x"), Err(ActionError::Digest(_))));
    assert!(matches!(parse("POST", "/v2/a/manifests/x"), Err(ActionError::Method { .. })));
    assert!(matches!(parse("GET", "/v2/a/tags/list?n=-1"), Err(ActionError::Query { name: "n", .. })));
    assert!(matches!(parse("GET", "/v2/a/tags/list?n=1&n=2"), Err(ActionError::Query { name: "n", .. })));
    assert!(matches!(
        parse("PUT", &format!("/v2/a/blobs/uploads/{ID}")),
        Err(ActionError::Query { name: "digest", .. })
    ));
    assert_eq!(parse("GET", "/v2/a/blobs/uploads/not-an-id"), Err(ActionError::UploadId));
    assert_eq!(parse("GET", "/v2/%ff/tags/list"), Err(ActionError::Encoding));
}

proptest! {
    #[test]
    fn arbitrary_requests_never_panic(method in "[A-Z]{1,8}", uri in "/v2/[ -~]{0,80}") {
        let _ = parse(&method, &uri);
    }

    #[test]
    fn an_action_names_the_repository_of_its_path(name in "[a-z0-9]{1,4}(/[a-z0-9]{1,4}){0,3}", reference in "[a-z0-9]{1,9}") {
        prop_assert_eq!(name_of("GET", &format!("/v2/{name}/manifests/{reference}")), ("get-manifest", Some(name)));
    }
}
