//! "Content Discovery": tags (end-8), referrers (end-12), and the catalog that registries have beside the specification.

use serde_json::{Value, json};

use crate::support::client::{Request, Response};
use crate::support::content::{
    Image, Manifest, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, hex, index, unique, unknown_digest,
};
use crate::support::repo::{Repo, strings};

/// Pushes one image under every tag.
fn tag_all(repo: &Repo, tags: &[&str]) {
    let image = Image::new(&[50]);
    for tag in tags {
        repo.push_image(tag, &image);
    }
}

/// Returns the path and query of the next page, from `Link` (RFC 8288).
#[track_caller]
fn next(response: &Response) -> Option<String> {
    let link = response.header("link")?;
    let (target, parameters) =
        link.strip_prefix('<').and_then(|link| link.split_once('>')).unwrap_or_else(|| panic!("no target in {link}"));
    assert!(parameters.contains("rel=\"next\"") || parameters.contains("rel=next"), "{link}");
    Some(match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]).to_owned(),
        None if target.starts_with('/') => target.to_owned(),
        None => panic!("{target} is relative to what was asked, which clients get wrong"),
    })
}

fn the_list_of_tags_is_200_with_name_and_tags(repo: &Repo) {
    tag_all(repo, &["v1"]);
    let response = repo.send(Request::get(repo.path("tags/list"))).expect(200);
    assert_eq!(response.json(), json!({"name": repo.name, "tags": ["v1"]}));
    assert!(response.required("content-type").starts_with("application/json"));
}

fn tags_are_listed_in_order(repo: &Repo) {
    tag_all(repo, &["b", "B", "a", "10", "9", "_x", "a.b", "a-b", "a_b", "aa", "Z"]);
    assert_eq!(repo.tags(""), ["10", "9", "B", "Z", "_x", "a", "a-b", "a.b", "a_b", "aa", "b"]);
}

fn the_list_of_tags_may_be_empty(repo: &Repo) {
    let image = Image::new(&[50]);
    repo.push_image(&image.manifest.digest(), &image);
    let response = repo.send(Request::get(repo.path("tags/list"))).expect(200);
    assert_eq!(response.json()["name"], repo.name);
    assert!(strings(&response.json()["tags"]).is_empty());
    assert!(response.json()["tags"].is_array(), "an empty list is a list, not null");
}

fn tags_of_an_unknown_repository_are_404(repo: &Repo) {
    repo.send(Request::get(repo.path("tags/list"))).expect_error(404, "NAME_UNKNOWN");
}

fn n_limits_the_tags(repo: &Repo) {
    tag_all(repo, &["a", "b", "c", "d", "e"]);
    assert_eq!(repo.tags("?n=2"), ["a", "b"]);
    assert_eq!(repo.tags("?n=5"), ["a", "b", "c", "d", "e"]);
    assert_eq!(repo.tags("?n=100"), ["a", "b", "c", "d", "e"]);
}

fn n_of_zero_is_an_empty_list_without_link(repo: &Repo) {
    tag_all(repo, &["a", "b"]);
    let response = repo.send(Request::get(repo.path("tags/list?n=0"))).expect(200);
    assert!(strings(&response.json()["tags"]).is_empty());
    assert_eq!(response.header("link"), None);
}

fn last_begins_the_page_after_that_tag(repo: &Repo) {
    tag_all(repo, &["a", "b", "c", "d", "e"]);
    assert_eq!(repo.tags("?last=b"), ["c", "d", "e"]);
    assert_eq!(repo.tags("?n=2&last=b"), ["c", "d"]);
    assert_eq!(repo.tags("?last=bb&n=1"), ["c"], "a tag that is not there begins where it would be");
    assert!(repo.tags("?n=2&last=e").is_empty());
}

fn last_may_be_any_text(repo: &Repo) {
    tag_all(repo, &["B", "a", "b-1", "b.1"]);
    for (last, tags) in [
        (".", &["B", "a", "b-1", "b.1"][..]),
        ("", &["B", "a", "b-1", "b.1"]),
        ("A%20", &["B", "a", "b-1", "b.1"]),
        ("B!", &["a", "b-1", "b.1"]),
        ("b-", &["b-1", "b.1"]),
        ("b%2C", &["b-1", "b.1"]),
        ("b-~", &["b.1"]),
        ("b%C3%A4", &[]),
        (&"z".repeat(5000), &[]),
    ] {
        assert_eq!(repo.tags(&format!("?n=&last={last}")), tags, "after {last}");
    }
    for suffix in ["a", "b"] {
        tag_all(&repo.sibling(suffix), &["v1"]);
    }
    let name = &repo.name;
    let names = |last: &str| {
        let listed = repo.send(Request::get(format!("/v2/_catalog?n=2&last={last}"))).expect(200).json();
        strings(&listed["repositories"])
    };
    let (a, b) = (format!("{name}/a"), format!("{name}/b"));
    for last in [format!("{name}/"), format!("{name}/."), format!("{name}/%20")] {
        assert_eq!(names(&last), [a.clone(), b.clone()], "after {last}");
    }
    assert_eq!(names(&format!("{name}/a~")).first(), Some(&b));
    assert_ne!(names(&format!("{name}/%C3%A4")).first(), Some(&a));
}

fn link_leads_through_all_tags(repo: &Repo) {
    let tags = ["a", "a-1", "a.1", "a0", "b", "c", "c_"];
    tag_all(repo, &tags);
    for n in 1..=tags.len() {
        let (mut seen, mut path) = (Vec::new(), Some(repo.path(&format!("tags/list?n={n}"))));
        while let Some(page) = path {
            let response = repo.send(Request::get(page)).expect(200);
            let page = strings(&response.json()["tags"]);
            assert!(page.len() <= n && !(page.is_empty() && response.header("link").is_some()), "{response:?}");
            path = next(&response);
            assert!(page.len() == n || path.is_none(), "fewer than n, and a Link: {response:?}");
            seen.extend(page);
        }
        assert_eq!(seen, tags, "by {n}");
    }
}

fn the_last_page_has_no_link(repo: &Repo) {
    tag_all(repo, &["a", "b"]);
    for query in ["", "?n=2", "?n=3", "?n=1&last=a"] {
        let response = repo.send(Request::get(repo.path(&format!("tags/list{query}")))).expect(200);
        assert_eq!(response.header("link"), None, "{query}");
    }
}

fn a_malformed_n_is_400(repo: &Repo) {
    tag_all(repo, &["a"]);
    for n in ["x", "-1", "1.5"] {
        repo.send(Request::get(repo.path(&format!("tags/list?n={n}")))).expect(400);
    }
}

fn the_catalog_lists_repositories_in_order_by_pages(repo: &Repo) {
    for suffix in ["b", "a", "c"] {
        tag_all(&repo.sibling(suffix), &["v1"]);
    }
    let name = &repo.name;
    let response = repo.send(Request::get(format!("/v2/_catalog?n=2&last={name}"))).expect(200);
    assert_eq!(strings(&response.json()["repositories"]), [format!("{name}/a"), format!("{name}/b")]);
    let path = next(&response).expect("a Link to the next page");
    let following = strings(&repo.send(Request::get(path)).expect(200).json()["repositories"]);
    assert_eq!(following.first(), Some(&format!("{name}/c")));
}

fn the_catalog_with_n_of_zero_is_empty(repo: &Repo) {
    tag_all(repo, &["v1"]);
    let response = repo.send(Request::get("/v2/_catalog?n=0")).expect(200);
    assert!(strings(&response.json()["repositories"]).is_empty());
    assert_eq!(response.header("link"), None);
}

/// Asks for the referrers of `digest`; checks what every answer has.
#[track_caller]
fn referrers(repo: &Repo, digest: &str, query: &str) -> (Vec<Value>, Response) {
    let response = repo.send(Request::get(repo.path(&format!("referrers/{digest}{query}")))).expect(200);
    assert_eq!(response.required("content-type"), OCI_INDEX);
    let body = response.json();
    assert_eq!((&body["schemaVersion"], &body["mediaType"]), (&json!(2), &json!(OCI_INDEX)));
    (body["manifests"].as_array().cloned().unwrap_or_else(|| panic!("manifests is a list\n{response:?}")), response)
}

fn digests(descriptors: &[Value]) -> Vec<String> {
    let mut digests: Vec<_> =
        descriptors.iter().map(|descriptor| descriptor["digest"].as_str().expect("a digest").to_owned()).collect();
    digests.sort();
    digests
}

fn sorted<const N: usize>(mut digests: [String; N]) -> [String; N] {
    digests.sort();
    digests
}

fn referrers_are_an_index_of_descriptors(repo: &Repo) {
    let subject = Image::new(&[50]);
    repo.push_image("v1", &subject);
    let referrer = Image::with(&[50], |manifest| {
        manifest["artifactType"] = "application/vnd.example.sbom".into();
        manifest["annotations"] = json!({"org.example.format": "json", "é": "ü"});
        manifest["subject"] = subject.manifest.descriptor();
    });
    repo.push_image("sbom", &referrer);
    let (found, _) = referrers(repo, &subject.manifest.digest(), "");
    assert_eq!(
        found,
        [json!({
            "mediaType": OCI_MANIFEST,
            "digest": referrer.manifest.digest(),
            "size": referrer.manifest.bytes.len(),
            "artifactType": "application/vnd.example.sbom",
            "annotations": {"org.example.format": "json", "é": "ü"},
        })]
    );
}

fn an_image_without_artifact_type_is_listed_with_the_type_of_its_config(repo: &Repo) {
    let subject = Image::new(&[50]);
    for artifact_type in [None, Some("")] {
        let referrer = Image::with(&[50], |manifest| {
            manifest["subject"] = subject.manifest.descriptor();
            if let Some(artifact_type) = artifact_type {
                manifest["artifactType"] = artifact_type.into();
            }
        });
        repo.push_image(&referrer.manifest.digest(), &referrer);
    }
    let (found, _) = referrers(repo, &subject.manifest.digest(), "");
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|descriptor| descriptor["artifactType"] == OCI_CONFIG), "{found:?}");
}

fn an_index_without_artifact_type_is_listed_without_one(repo: &Repo) {
    let subject = Image::new(&[50]);
    let mut plain =
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "subject": subject.manifest.descriptor()});
    repo.push_manifest("plain", &Manifest::new(&plain));
    plain["artifactType"] = "application/vnd.example.index".into();
    repo.push_manifest("typed", &Manifest::new(&plain));
    let (mut found, _) = referrers(repo, &subject.manifest.digest(), "");
    found.sort_by_key(|descriptor| descriptor["artifactType"].as_str().map(str::to_owned));
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].get("artifactType"), None);
    assert_eq!(found[1]["artifactType"], "application/vnd.example.index");
    assert!(found.iter().all(|descriptor| descriptor["mediaType"] == OCI_INDEX));
}

fn a_digest_without_referrers_has_an_empty_list(repo: &Repo) {
    assert!(referrers(repo, &unknown_digest(), "").0.is_empty(), "where there is no repository");
    let digest = repo.push_image("v1", &Image::new(&[50]));
    assert!(referrers(repo, &digest, "").0.is_empty(), "of a manifest without any");
    assert!(referrers(repo, &unknown_digest(), "").0.is_empty(), "of a manifest that is not there");
}

fn referrers_of_a_malformed_digest_are_400(repo: &Repo) {
    repo.push_image("v1", &Image::new(&[50]));
    for digest in ["sha256:beef", "latest", "sha256"] {
        repo.send(Request::get(repo.path(&format!("referrers/{digest}")))).expect_error(400, "DIGEST_INVALID");
    }
}

fn referrers_are_filtered_by_artifact_type(repo: &Repo) {
    let subject = Image::new(&[50]);
    let types = ["application/vnd.example.sig+json", "application/vnd.example.sbom", "application/vnd.example.sbom"];
    let all = types.map(|artifact_type| Image::referrer(&subject.manifest, artifact_type));
    let pushed = all.each_ref().map(|image| repo.push_image(&image.manifest.digest(), image));
    let subject = subject.manifest.digest();
    let (found, response) = referrers(repo, &subject, "?artifactType=application/vnd.example.sbom");
    assert_eq!(response.required("oci-filters-applied"), "artifactType");
    assert_eq!(digests(&found), sorted([pushed[1].clone(), pushed[2].clone()]));
    let (found, _) = referrers(repo, &subject, "?artifactType=application%2Fvnd.example.sig%2Bjson");
    assert_eq!(digests(&found), [pushed[0].clone()]);
    let (found, response) = referrers(repo, &subject, "?artifactType=application/none");
    assert!(found.is_empty());
    assert_eq!(response.required("oci-filters-applied"), "artifactType");
    let (found, response) = referrers(repo, &subject, "");
    assert_eq!(digests(&found), sorted(pushed));
    assert_eq!(response.header("oci-filters-applied"), None);
}

/// The registry chooses the length of a page. All entries come.
fn link_leads_through_all_referrers(repo: &Repo) {
    let subject = Image::new(&[50]).manifest;
    let pushed: Vec<_> = (0..7)
        .map(|_| {
            let value = json!({
                "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "subject": subject.descriptor(),
                "annotations": {"unique": hex(&unique(16))},
            });
            let manifest = Manifest::new(&value);
            repo.push_manifest(&manifest.digest(), &manifest)
        })
        .collect();
    let (mut found, mut path) = (Vec::new(), Some("?n=3".to_owned()));
    while let Some(query) = path {
        let (page, response) = referrers(repo, &subject.digest(), &query);
        found.extend(page);
        path = next(&response).map(|next| next[next.find('?').unwrap_or(next.len())..].to_owned());
    }
    let mut pushed = pushed;
    pushed.sort();
    assert_eq!(digests(&found), pushed);
    for last in ["x", "1", "-", "1-sha256:beef"] {
        repo.send(Request::get(repo.path(&format!("referrers/{}?last={last}", subject.digest())))).expect(400);
    }
}

/// Some clients read the first page alone.
fn the_newest_referrers_come_first(repo: &Repo) {
    let subject = Image::new(&[50]).manifest;
    let mut pushed = Vec::new();
    for _ in 0..5 {
        let referrer = Image::referrer(&subject, "application/vnd.example.sig");
        pushed.push(repo.push_image(&referrer.manifest.digest(), &referrer));
        // two of one millisecond are as new as each other
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    pushed.reverse();
    let found = |query: &str| -> Vec<String> {
        let (found, _) = referrers(repo, &subject.digest(), query);
        found.iter().map(|descriptor| descriptor["digest"].as_str().expect("a digest").to_owned()).collect()
    };
    assert_eq!(found(""), pushed);
    assert_eq!(found("?n=2"), pushed[..2]);
    let (_, response) = referrers(repo, &subject.digest(), "?n=2");
    let path = next(&response).expect("a Link to the next page");
    assert_eq!(found(&path[path.find('?').expect("a query")..]), pushed[2..4]);
}

fn referrers_follow_pushes_and_deletions(repo: &Repo) {
    let subject = Image::new(&[50]);
    let referrer = Image::referrer(&subject.manifest, "application/vnd.example.sig");
    let digest = repo.push_image("sig", &referrer);
    repo.push_image("v1", &subject);
    repo.push_manifest("again", &referrer.manifest);
    assert_eq!(
        digests(&referrers(repo, &subject.manifest.digest(), "").0),
        std::slice::from_ref(&digest),
        "once, however often it was pushed"
    );
    repo.send(Request::delete(repo.manifest_path(&digest))).expect(202);
    assert!(referrers(repo, &subject.manifest.digest(), "").0.is_empty());
    repo.push_image("sig", &referrer);
    assert_eq!(digests(&referrers(repo, &subject.manifest.digest(), "").0), [digest]);
}

fn referrers_stay_in_their_repository(repo: &Repo) {
    let subject = Image::new(&[50]);
    repo.push_image("sig", &Image::referrer(&subject.manifest, "application/vnd.example.sig"));
    let other = repo.sibling("other");
    other.push_manifest("none", &index(&[]));
    assert!(referrers(&other, &subject.manifest.digest(), "").0.is_empty());
}

crate::support::on_each_backend!(shared:
    the_list_of_tags_is_200_with_name_and_tags,
    tags_are_listed_in_order,
    the_list_of_tags_may_be_empty,
    tags_of_an_unknown_repository_are_404,
    n_limits_the_tags,
    n_of_zero_is_an_empty_list_without_link,
    last_begins_the_page_after_that_tag,
    last_may_be_any_text,
    link_leads_through_all_tags,
    the_last_page_has_no_link,
    a_malformed_n_is_400,
    the_catalog_lists_repositories_in_order_by_pages,
    the_catalog_with_n_of_zero_is_empty,
    referrers_are_an_index_of_descriptors,
    an_image_without_artifact_type_is_listed_with_the_type_of_its_config,
    an_index_without_artifact_type_is_listed_without_one,
    a_digest_without_referrers_has_an_empty_list,
    referrers_of_a_malformed_digest_are_400,
    referrers_are_filtered_by_artifact_type,
    link_leads_through_all_referrers,
    the_newest_referrers_come_first,
    referrers_follow_pushes_and_deletions,
    referrers_stay_in_their_repository,
);
