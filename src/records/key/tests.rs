use proptest::prelude::*;

use super::*;
use crate::oci::{Algorithm, Tag};

fn digests() -> impl Strategy<Value = Digest> {
    let algorithm = prop_oneof![Just(Algorithm::Sha256), Just(Algorithm::Sha512)];
    (algorithm, any::<u32>()).prop_map(|(algorithm, content)| Digest::of(algorithm, &content.to_be_bytes()))
}

fn names() -> impl Strategy<Value = Name> {
    "[a-z0-9]{1,3}(/[a-z0-9]{1,3}([._-][a-z0-9]{1,2}){0,2}){0,2}".prop_map(|name| name.parse().unwrap())
}

fn tags() -> impl Strategy<Value = Tag> {
    "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,8}".prop_map(|tag| tag.parse().unwrap())
}

fn suffixes() -> impl Strategy<Value = Suffix> {
    any::<u64>().prop_map(Suffix)
}

fn versions() -> impl Strategy<Value = Version> {
    (any::<u64>(), any::<bool>()).prop_map(|(ordinal, there)| Version { ordinal: Ordinal(ordinal), there })
}

fn uploads() -> impl Strategy<Value = UploadId> {
    any::<u128>().prop_map(|id| uuid::Uuid::from_u128(id).hyphenated().to_string().parse().unwrap())
}

fn of_repositories() -> impl Strategy<Value = RepositoryKey> {
    let target = prop::option::of((digests(), any::<u64>().prop_map(Ordinal)));
    let tag_version =
        (any::<u64>(), target).prop_map(|(ordinal, target)| TagVersion { ordinal: Ordinal(ordinal), target });
    let of_manifest = prop_oneof![
        (versions(), suffixes()).prop_map(|(version, attempt)| ManifestKey::Version(version, attempt)),
        (digests(), suffixes()).prop_map(|(index, attempt)| ManifestKey::IndexReference(index, attempt)),
        (any::<u64>(), suffixes()).prop_map(|(end, attempt)| ManifestKey::PendingDelete(Ordinal(end), attempt)),
    ];
    prop_oneof![
        (digests(), of_manifest).prop_map(|(digest, key)| RepositoryKey::Manifest(digest, key)),
        (tags(), tag_version).prop_map(|(tag, version)| RepositoryKey::Tag(tag, version)),
        (digests(), digests(), versions(), suffixes()).prop_map(|(subject, manifest, version, attempt)| {
            RepositoryKey::Referrer(Referrer { subject, manifest }, version, attempt)
        }),
        (tags(), any::<u64>()).prop_map(|(tag, after)| RepositoryKey::TagClaim(tag, Ordinal(after))),
        (digests(), any::<u64>()).prop_map(|(digest, after)| RepositoryKey::ManifestClaim(digest, Ordinal(after))),
        (digests(), any::<u64>()).prop_map(|(digest, number)| RepositoryKey::Download(digest, Ordinal(number))),
        digests().prop_map(RepositoryKey::FirstSeen),
        (digests(), tags()).prop_map(|(digest, tag)| RepositoryKey::Lead(digest, tag)),
        (tags(), suffixes()).prop_map(|(tag, attempt)| RepositoryKey::History(tag, attempt)),
        (any::<u64>(), suffixes()).prop_map(|(until, attempt)| RepositoryKey::Pulls(until, attempt)),
    ]
}

fn keys() -> impl Strategy<Value = Key> {
    let link = prop_oneof![Just(BlobLink::Link), Just(BlobLink::Unlinked), digests().prop_map(BlobLink::Pin)];
    let of_blob = prop_oneof![
        uploads().prop_map(BlobKey::Copy),
        (names(), link, suffixes()).prop_map(|(name, link, attempt)| BlobKey::Link(name, link, attempt)),
    ];
    let of_data = prop_oneof![
        suffixes().prop_map(DataKey::Mark),
        suffixes().prop_map(DataKey::Corrupt),
        (any::<u64>(), suffixes()).prop_map(|(offset, attempt)| DataKey::Segment(offset, attempt)),
    ];
    let of_catalog = prop_oneof![suffixes().prop_map(CatalogKey::Mark), suffixes().prop_map(CatalogKey::Entry)];
    let of_upload = prop_oneof![any::<u32>().prop_map(UploadKey::State), suffixes().prop_map(UploadKey::Alive)];
    prop_oneof![
        Just(Key::Format),
        Just(Key::PullsSince),
        (digests(), of_blob).prop_map(|(digest, key)| Key::Blob(digest, key)),
        (uploads(), of_data).prop_map(|(id, key)| Key::Data(id, key)),
        (names(), of_repositories()).prop_map(|(name, key)| Key::Repository(name, key)),
        (names(), of_catalog).prop_map(|(name, key)| Key::Catalog(name, key)),
        (uploads(), of_upload).prop_map(|(id, key)| Key::Upload(id, key)),
        (any::<u64>(), digests(), suffixes()).prop_map(|(at, digest, attempt)| Key::Corrupt(at, digest, attempt)),
        (any::<u64>(), suffixes()).prop_map(|(lease, attempt)| Key::Lease(lease, attempt)),
        ("[ -~]{0,12}", suffixes()).prop_map(|(key, attempt)| Key::Quarantine(key, attempt)),
        suffixes().prop_map(Key::Clock),
        (suffixes(), "[a-zA-Z0-9/]{0,4}").prop_map(|(attempt, name)| Key::Probe(attempt, name)),
        (any::<u64>(), suffixes()).prop_map(|(at, attempt)| Key::Cursor(at, attempt)),
    ]
}

proptest! {
    #[test]
    fn every_key_parses_back_to_itself(key in keys()) {
        prop_assert_eq!(Key::parse(&key.to_string()), Some(key));
    }

    #[test]
    fn a_text_that_parses_is_exactly_the_text_of_its_key(
        key in keys(), at in any::<prop::sample::Index>(), other in "[!-~]{0,2}", cut in 0..3_usize,
    ) {
        let text = key.to_string();
        let at = at.index(text.len() + 1);
        let changed = format!("{}{other}{}", &text[..at], &text[(at + cut).min(text.len())..]);
        if let Some(parsed) = Key::parse(&changed) {
            prop_assert_eq!(parsed.to_string(), changed);
        }
    }

    #[test]
    fn a_key_of_a_repository_parses_the_same_without_its_name(name in names(), key in of_repositories()) {
        let text = Key::Repository(name.clone(), key.clone()).to_string();
        prop_assert_eq!(RepositoryKey::under(&name, &text), Some(key));
    }

    #[test]
    fn tags_and_names_sort_as_their_keys_do(one in tags(), other in tags(), a in names(), b in names()) {
        let tag = |tag: &Tag| Prefix::Tag(&a, tag).to_string();
        prop_assert_eq!(tag(&one).cmp(&tag(&other)), one.cmp(&other));
        prop_assert_eq!(Prefix::Tag(&a, &one).end() < tag(&other), one < other);
        let name = |name: &Name| Prefix::CatalogOf(name).to_string();
        prop_assert_eq!(name(&a).cmp(&name(&b)), a.cmp(&b));
        prop_assert_eq!(Prefix::CatalogOf(&a).end() < name(&b), a < b);
    }
}

#[test]
fn a_name_sorts_right_before_the_names_that_go_on_from_it() {
    let names = ["a", "a-b", "a.b", "a/b", "a/b/c", "a0", "a_b", "ab"].map(|name| name.parse::<Name>().unwrap());
    assert!(names.is_sorted());
    for prefix in [Prefix::CatalogOf, Prefix::Repository] {
        assert!(names.iter().map(|name| prefix(name).to_string()).is_sorted());
    }
}

fn name() -> Name {
    "a/b".parse().unwrap()
}

fn digest() -> Digest {
    Digest::of(Algorithm::Sha512, b"x")
}

fn id() -> UploadId {
    "01234567-89ab-4def-8123-456789abcdef".parse().unwrap()
}

/// Asserts that a listing gives these keys in this order.
fn assert_order(keys: &[Key]) {
    let texts: Vec<String> = keys.iter().map(Key::to_string).collect();
    assert!(texts.is_sorted_by(|one, other| one < other), "{texts:#?}");
}

fn of_manifest(key: ManifestKey) -> Key {
    Key::Repository(name(), RepositoryKey::Manifest(digest(), key))
}

fn version(ordinal: u64, there: bool, attempt: u64) -> Key {
    of_manifest(ManifestKey::Version(Version { ordinal: Ordinal(ordinal), there }, Suffix(attempt)))
}

fn of_tag(ordinal: u64, target: Option<(Digest, Ordinal)>) -> Key {
    Key::Repository(name(), RepositoryKey::Tag("v1".parse().unwrap(), TagVersion { ordinal: Ordinal(ordinal), target }))
}

fn of_referrer(ordinal: u64, there: bool, attempt: u64) -> Key {
    let referrer = Referrer { subject: digest(), manifest: digest() };
    let version = Version { ordinal: Ordinal(ordinal), there };
    Key::Repository(name(), RepositoryKey::Referrer(referrer, version, Suffix(attempt)))
}

#[test]
fn the_newest_version_sorts_first() {
    assert_order(&[version(8, false, 0), version(7, true, 0)]);
    assert_order(&[of_tag(8, None), of_tag(7, Some((digest(), Ordinal(u64::MAX))))]);
    assert_order(&[of_referrer(8, false, 0), of_referrer(7, true, 0)]);
    assert_order(&[Key::Corrupt(8, digest(), Suffix(1)), Key::Corrupt(7, digest(), Suffix(0))]);
    assert_order(&[Key::Cursor(8, Suffix(1)), Key::Cursor(7, Suffix(0))]);
    let pulls = |until| Key::Repository(name(), RepositoryKey::Pulls(until, Suffix(until)));
    assert_order(&[pulls(8), pulls(7)]);
    let state = |number| Key::Upload(id(), UploadKey::State(number));
    assert_order(&[state(u32::MAX), state(1), state(0)]);
}

#[test]
fn at_one_ordinal_a_push_sorts_before_a_removal() {
    assert_order(&[version(8, true, u64::MAX), version(8, false, 0)]);
    assert_order(&[of_tag(8, Some((digest(), Ordinal(u64::MAX)))), of_tag(8, None)]);
    assert_order(&[of_referrer(8, true, u64::MAX), of_referrer(8, false, 0)]);
}

#[test]
fn at_one_ordinal_a_version_with_an_earlier_suffix_sorts_first() {
    assert!((0..100).all(|_| Suffix(2).before() < Suffix(2)));
    assert_order(&[version(8, true, 1), version(8, true, 2)]);
    assert_order(&[of_referrer(8, true, 1), of_referrer(8, true, 2)]);
}

#[test]
fn index_references_and_pending_deletes_sort_after_all_versions() {
    let reference = of_manifest(ManifestKey::IndexReference(digest(), Suffix(0)));
    let pending = of_manifest(ManifestKey::PendingDelete(Ordinal(0), Suffix(0)));
    assert_order(&[version(u64::MAX, true, 0), version(0, false, u64::MAX), reference, pending]);
}

#[test]
fn marks_and_corruption_notes_sort_before_segments() {
    let all = [DataKey::Mark(Suffix(0)), DataKey::Corrupt(Suffix(u64::MAX)), DataKey::Segment(0, Suffix(0))];
    assert_order(&all.map(|key| Key::Data(id(), key)));
    assert_order(&[Key::Data(id(), DataKey::Mark(Suffix(u64::MAX))), Key::Data(id(), DataKey::Segment(0, Suffix(0)))]);
    let segments = [DataKey::Segment(9, Suffix(1)), DataKey::Segment(10, Suffix(0))];
    assert_order(&segments.map(|key| Key::Data(id(), key)));
}

#[test]
fn the_mark_of_an_empty_repository_sorts_before_its_entries() {
    let all = [CatalogKey::Mark(Suffix(u64::MAX)), CatalogKey::Entry(Suffix(0))];
    assert_order(&all.map(|key| Key::Catalog(name(), key)));
}

#[test]
fn states_of_an_upload_sort_before_its_signs_of_life() {
    let all = [UploadKey::State(0), UploadKey::Alive(Suffix(0))];
    assert_order(&all.map(|key| Key::Upload(id(), key)));
}

#[test]
fn blob_copies_sort_before_links_and_links_before_pins() {
    let link = |link| BlobKey::Link(name(), link, Suffix(0));
    let all = [BlobKey::Copy(id()), link(BlobLink::Link), link(BlobLink::Pin(digest())), link(BlobLink::Unlinked)];
    assert_order(&all.map(|key| Key::Blob(digest(), key)));
}

#[test]
fn claims_sort_in_the_order_of_the_versions_that_they_come_after() {
    let claim = |after| Key::Repository(name(), RepositoryKey::TagClaim("v1".parse().unwrap(), Ordinal(after)));
    assert_order(&[claim(0), claim(9), claim(10), claim(u64::MAX)]);
}

#[test]
fn no_component_outgrows_a_file_name() {
    let name: Name = "a".repeat(Name::MAX_COMPONENT).parse().unwrap();
    let tag: Tag = "a".repeat(128).parse().unwrap();
    let version = TagVersion { ordinal: Ordinal(1), target: Some((digest(), Ordinal(1))) };
    for key in [
        Key::Repository(name.clone(), RepositoryKey::Tag(tag, version)),
        Key::Blob(digest(), BlobKey::Link(name.clone(), BlobLink::Pin(digest()), Suffix(1))),
        of_manifest(ManifestKey::IndexReference(digest(), Suffix(1))),
        of_manifest(ManifestKey::PendingDelete(Ordinal(1), Suffix(1))),
        Key::Catalog(name, CatalogKey::Entry(Suffix(1))),
    ] {
        assert!(key.to_string().split('/').all(|component| component.len() <= 255), "{key}");
    }
}

#[test]
fn every_key_of_the_table_is_under_a_root_of_the_store() {
    let table = include_str!("../key.rs").lines().map_while(|line| line.strip_prefix("//!"));
    let keys: Vec<&str> = table
        .map(|line| line.trim_start_matches(' '))
        .skip_while(|line| !line.starts_with("```"))
        .skip(1)
        .take_while(|line| !line.starts_with("```"))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(keys.len() > 20, "{keys:?}");
    for key in keys {
        let is_ours = crate::storage::ROOTS.iter().any(|root| key.starts_with(root));
        assert!(is_ours || Key::parse(key).is_some(), "{key} is below no root");
    }
}
