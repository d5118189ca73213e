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
        ("GET", "/v2/a/_history/v1?n=2&last=17".to_owned(), "get-tag-history", a()),
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
        ("POST", format!("/v2/a/blobs/uploads/?mount={D}&from=B"), "start-upload", a()),
        ("POST", "/v2/a/blobs/uploads/?mount=sha256:x&from=b".to_owned(), "start-upload", a()),
        ("GET", "/v2/_catalog?n=&last=b/".to_owned(), "list-catalog", None),
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
fn an_error_names_what_is_wrong() {
    assert_eq!(parse("GET", "/v1/"), Err(ActionError::NotFound));
    assert_eq!(parse("GET", "/v2x"), Err(ActionError::NotFound));
    assert!(matches!(parse("GET", "/v2/A/manifests/x"), Err(ActionError::Name { .. })));
    assert!(matches!(parse("GET", "/v2/a/manifests/.x"), Err(ActionError::Tag { .. })));
    assert!(matches!(parse("GET", "/v2/a/manifests/sha256:x"), Err(ActionError::Digest { .. })));
    for (method, path, allowed) in [
        ("POST", "/v2/", "GET, HEAD"),
        ("POST", "/v2/a/manifests/x", "GET, HEAD, PUT, DELETE"),
        ("GET", "/v2/a/blobs/uploads", "POST"),
        ("GET", "/v2/a/blobs/uploads/", "POST"),
        ("POST", &format!("/v2/a/blobs/uploads/{ID}"), "GET, HEAD, PATCH, PUT, DELETE"),
        ("PUT", &format!("/v2/a/blobs/{D}"), "GET, HEAD, DELETE"),
        ("DELETE", "/v2/a/_history/v1", "GET, HEAD"),
    ] {
        let Err(ActionError::Method { allow, .. }) = parse(method, path) else {
            panic!("{method} {path} is an action")
        };
        assert_eq!(allow, allowed, "{method} {path}");
    }
    assert!(matches!(parse("POST", "/v2/A/manifests/x"), Err(ActionError::Name { .. })));
    assert!(matches!(parse("GET", "/v2/a/_history/.v"), Err(ActionError::Tag { .. })));
    assert!(matches!(parse("GET", "/v2/a/_history/v?last=v1"), Err(ActionError::Query { name: "last", .. })));
    assert!(matches!(parse("GET", "/v2/a/tags/list?n=-1"), Err(ActionError::Query { name: "n", .. })));
    assert!(matches!(parse("GET", "/v2/a/tags/list?n=1&n=2"), Err(ActionError::Query { name: "n", .. })));
    assert!(matches!(
        parse("PUT", &format!("/v2/a/blobs/uploads/{ID}")),
        Err(ActionError::Query { name: "digest", .. })
    ));
    assert_eq!(parse("GET", "/v2/a/blobs/uploads/not-an-id"), Err(ActionError::UploadId));
    assert_eq!(parse("GET", "/v2/%ff/tags/list"), Err(ActionError::Encoding("path")));
    assert_eq!(parse("GET", "/v2/a/tags/list?last=%ff"), Err(ActionError::Encoding("last")));
    let told = |method, uri: &str| parse(method, uri).unwrap_err().to_string();
    assert!(told("GET", "/v2/A/manifests/x").contains("the repository name \"A\" is not valid: "));
    assert!(told("GET", "/v2/a/manifests/.x").contains("the tag \".x\" is not valid: "));
    assert!(told("PUT", "/v2/a/manifests/v1?tag=.y").contains("the tag \".y\" is not valid: "));
    assert!(told("GET", "/v2/a/blobs/sha256:x").contains("the digest \"sha256:x\" is not valid: "));
    assert!(told("POST", "/v2/a/blobs/uploads/?digest=sha256:y").contains("the digest \"sha256:y\" is not valid: "));
    assert!(told("GET", &format!("/v2/{}/manifests/x", "A".repeat(9000))).len() < 1000);
}

/// The paths of the specification, and the paths outside of `/v2/`.
const PATHS_OF_OTHERS: [&str; 9] = [
    "/v2/",
    "/v2/<name>/blobs/<digest>",
    "/v2/<name>/blobs/uploads/",
    "/v2/<name>/blobs/uploads/?mount=",
    "/v2/<name>/blobs/uploads/<id>",
    "/v2/<name>/manifests/<reference>",
    "/v2/<name>/referrers/<digest>",
    "/v2/<name>/tags/list",
    "/metrics",
];

/// Returns requests for a row, one for each of its methods.
fn requests(row: &'static Row, name: &str, tag: &str) -> Vec<(&'static str, String)> {
    let path = row.path.replace("<name>", name).replace("<reference>", tag).replace("<tag>", tag);
    let path = path.replace("<digest>", D).replace("<id>", ID);
    let uri = if path.ends_with('=') { path + D + "&from=b" } else { path + "?digest=" + D };
    row.methods.split(", ").map(|method| (method, uri.clone())).collect()
}

#[test]
fn every_row_of_the_table_is_parsed_from_its_own_path() {
    for (number, row) in ACTIONS.iter().enumerate() {
        for (method, uri) in requests(row, "a", "v1") {
            let action = parse(method, &uri).unwrap_or_else(|error| panic!("{}: {method} {uri}: {error}", row.word));
            assert_eq!(action.as_str(), row.word, "{method} {uri}");
            assert_eq!(action.name().is_some(), row.is_about_repository(), "{}: `target` has its name", row.word);
            let mut begun = action.clone();
            begun.set_upload_owner("ana");
            let owner = begun.target().upload.map(|(_, owner)| owner.to_owned());
            let has_owner = row.path.contains("<id>").then(|| "ana".to_owned());
            assert_eq!(owner, has_owner, "{}: `set_upload_owner` and `target` know its upload", row.word);
        }
        assert!(ACTIONS[..number].iter().all(|other| other.word != row.word), "two rows have the word {}", row.word);
        let is_own = !PATHS_OF_OTHERS.contains(&row.path);
        let is_apart = row.path.starts_with("/v2/_") || row.path.starts_with("/v2/<name>/_");
        assert_eq!(is_own, is_apart, "{}: a path of our own is below /v2/_ or /v2/<name>/_", row.word);
    }
}

#[test]
fn the_reference_of_the_api_has_every_row_of_the_table() {
    let page = include_str!("../../docs/reference/api.md").replace('`', "");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .skip_while(|line| !line.starts_with("| id | method and path | action |"))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.split('|').map(str::trim).skip(1).collect())
        .collect();
    for row in ACTIONS {
        let begin = format!("{} {}", row.methods, row.path);
        let is_there = rows.iter().any(|cells| cells[2] == row.word && cells[1].starts_with(&begin));
        assert!(is_there, "docs/reference/api.md has no row of {}: {begin}", row.word);
    }
    for cells in rows.iter().filter(|cells| !cells[2].is_empty()) {
        let is_known = ACTIONS.iter().any(|row| row.word == cells[2]);
        assert!(is_known, "docs/reference/api.md has {}, which is no action", cells[2]);
    }
}

proptest! {
    #[test]
    fn no_repository_name_or_tag_takes_the_path_of_another_action(
        name in "(a|b0|tags|list|manifests|blobs|uploads|referrers|history|v2)(/(a|tags|list|manifests|blobs|uploads|history)){0,4}",
        tag in "(v1|_|_history|_catalog|tags|list|manifests|blobs|uploads|history|[a-zA-Z0-9_][a-zA-Z0-9._-]{0,9})",
    ) {
        for row in ACTIONS {
            for (method, uri) in requests(row, &name, &tag) {
                let action = parse(method, &uri);
                prop_assert_eq!(action.as_ref().map(Action::as_str), Ok(row.word), "{} {}", method, uri);
                let action = action.unwrap();
                if row.is_about_repository() {
                    prop_assert_eq!(action.name().map(Name::as_str), Some(&*name), "{} {}", method, uri);
                }
                if let Some(found) = action.target().tag {
                    prop_assert_eq!(found.as_str(), &*tag);
                }
            }
        }
    }

    #[test]
    fn no_part_of_a_repository_name_begins_with_an_underscore(front in "([a-z0-9]{1,3}/){0,2}", part in "_[a-z0-9_.-]{0,9}") {
        prop_assert!((front + &part).parse::<Name>().is_err());
    }

    #[test]
    fn arbitrary_requests_never_panic(method in "[A-Z]{1,8}", uri in "/v2/[ -~]{0,80}") {
        let _ = parse(&method, &uri);
    }

    #[test]
    fn an_action_names_the_repository_of_its_path(name in "[a-z0-9]{1,4}(/[a-z0-9]{1,4}){0,3}", reference in "[a-z0-9]{1,9}") {
        prop_assert_eq!(name_of("GET", &format!("/v2/{name}/manifests/{reference}")), ("get-manifest", Some(name)));
    }
}
