use super::*;

#[test]
fn keys_parse_back_and_sort_newest_first() {
    let name: Name = "a/b".parse().unwrap();
    let of: Tag = "v1.0".parse().unwrap();
    let digest = Digest::of(Algorithm::Sha512, b"x");
    let old = TagVersion { ordinal: Ordinal(7), target: Some((digest, Ordinal(3))) };
    let new = TagVersion { ordinal: Ordinal(8), target: None };
    let keys = [tag_version(&name, &of, old), tag_version(&name, &of, new)];
    assert!(keys[1] < keys[0]);
    assert_eq!(parse_tag_version(&name, &keys[0]), Some((of.clone(), old)));
    assert_eq!(parse_tag_version(&name, &keys[1]), Some((of.clone(), new)));
    let beside = TagVersion { ordinal: Ordinal(8), target: Some((digest, Ordinal(3))) };
    assert!(tag_version(&name, &of, beside) < keys[1], "at one ordinal a push beats a delete");
    let put = manifest_version(&name, &digest, Ordinal(9), true, "a");
    let rm = manifest_version(&name, &digest, Ordinal(9), false, "0");
    assert!(put < rm && rm < kid(&name, &digest, &digest, "a"));
    let going = going(&name, &digest, Ordinal(10), "a");
    assert!(rm < going && manifest_version(&name, &digest, Ordinal(0), false, "a") < going);
    assert_eq!((version(&going), going_version(&going)), (None, Some(Ordinal(10))));
    assert_eq!((going_version(&rm), kid_parent(&going)), (None, None));
    assert_eq!(version(&rm), Some(Version { ordinal: Ordinal(9), there: false }));
    assert_eq!(kid_parent(&kid(&name, &digest, &digest, "a")), Some(digest));
    assert_eq!(version(&kid(&name, &digest, &digest, "a")), None);
    assert_eq!(right(&pin(&digest, &name, &digest, "a")), Some(Right::Pin(digest)));
    assert_eq!(right(&grant(&digest, &name, "a")), Some(Right::Grant));
    assert_eq!(holder(&digest, &grant(&digest, &name, "a")).unwrap().0, name);
    assert_eq!(catalog_name(&(catalog(&name) + "8b40613ff43f1b2e")), Some(name.clone()));
    assert_eq!(catalog_name("catalog/a/b!8b40613ff43f1b2e"), Some(name.clone()));
    assert!(catalog(&name) < after_catalog(&name));
    let referrer = referrer_version(&name, &digest, &digest, Ordinal(1), true, "a");
    assert_eq!(referrer_manifest(&referrer), Some(digest));
    let id = UploadId::random();
    assert_eq!(place_id(&place(&digest, &id)), Some(id.clone()));
    assert!(upload_state(&id, 1) < upload_state(&id, 0) && upload_state(&id, 0) < upload_alive(&id, "a"));
}

#[test]
fn no_component_outgrows_a_file_name() {
    let name: Name = "a".repeat(Name::MAX_COMPONENT).parse().unwrap();
    let of: Tag = "a".repeat(128).parse().unwrap();
    let digest = Digest::of(Algorithm::Sha512, b"x");
    let version = TagVersion { ordinal: Ordinal(1), target: Some((digest, Ordinal(1))) };
    for key in [
        tag_version(&name, &of, version),
        pin(&digest, &name, &digest, &attempt()),
        kid(&name, &digest, &digest, &attempt()),
        catalog(&name),
    ] {
        assert!(key.split('/').all(|component| component.len() <= 255), "{key}");
    }
}

#[test]
fn every_key_of_the_table_is_one_of_the_layouts() {
    let table = include_str!("../layout.rs").lines().map_while(|line| line.strip_prefix("//!"));
    let keys: Vec<&str> = table
        .map(|line| line.trim_start_matches(' '))
        .skip_while(|line| !line.starts_with("```"))
        .skip(1)
        .take_while(|line| !line.starts_with("```"))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(keys.len() > 20, "{keys:?}");
    for key in keys {
        let is_ours = PREFIXES.iter().any(|prefix| key.starts_with(prefix)) || [FORMAT, PULLS_SINCE].contains(&key);
        assert!(is_ours, "{key} is below none of PREFIXES");
    }
}
