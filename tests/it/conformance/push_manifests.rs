//! "Push", manifests (end-7): what is taken, kept byte for byte, tagged and refused.

use serde_json::{Value, json};

use crate::support::client::Request;
use crate::support::content::{
    DOCKER_LIST, DOCKER_MANIFEST, EMPTY_TYPE, Image, Manifest, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST,
    descriptor, index, sha256, sha512, unique, unknown_digest,
};
use crate::support::repo::Repo;

/// Pushes `manifest` by `reference`, and fails unless the answer is right and it comes back as it was sent.
#[track_caller]
fn push_and_pull(repo: &Repo, reference: &str, manifest: &Manifest) {
    let response = repo.send(repo.put_manifest(reference, manifest)).expect(201);
    assert_eq!(response.required("docker-content-digest"), manifest.digest());
    for path in [response.location(), repo.manifest_path(reference), repo.manifest_path(&manifest.digest())] {
        let pulled = repo.send(Request::get(path).header("accept", &manifest.media_type)).expect(200);
        assert_eq!(pulled.body, manifest.bytes, "kept byte for byte");
        assert_eq!(pulled.required("content-type"), manifest.media_type);
    }
}

fn a_manifest_put_by_tag_is_201_with_a_pullable_location(repo: &Repo) {
    let image = Image::new(&[100, 200]);
    repo.push_blobs(&image);
    push_and_pull(repo, "v1", &image.manifest);
}

fn a_manifest_put_by_digest_is_201_with_a_pullable_location(repo: &Repo) {
    let image = Image::new(&[100, 200]);
    repo.push_blobs(&image);
    push_and_pull(repo, &image.manifest.digest(), &image.manifest);
}

fn a_manifest_put_by_sha512_is_kept_under_it(repo: &Repo) {
    let image = Image::new(&[100]);
    repo.push_blobs(&image);
    let digest = sha512(&image.manifest.bytes);
    let response = repo.send(repo.put_manifest(&digest, &image.manifest)).expect(201);
    assert_eq!(response.required("docker-content-digest"), digest);
    let pulled = repo.get_manifest(&digest).expect(200);
    assert_eq!(pulled.body, image.manifest.bytes);
    assert_eq!(pulled.required("docker-content-digest"), digest);
}

fn a_manifest_pushed_under_another_digest_is_400_and_not_stored(repo: &Repo) {
    let image = Image::new(&[100]);
    repo.push_blobs(&image);
    let said = unknown_digest();
    repo.send(repo.put_manifest(&said, &image.manifest)).expect_error(400, "DIGEST_INVALID");
    repo.get_manifest(&said).expect(404);
    repo.get_manifest(&image.manifest.digest()).expect(404);
}

fn the_exact_bytes_are_kept_with_unknown_fields_and_spaces(repo: &Repo) {
    let image = Image::new(&[100]);
    repo.push_blobs(&image);
    let [config, layer] = [descriptor(OCI_CONFIG, &image.blobs[0]), descriptor(OCI_LAYER, &image.blobs[1])];
    let text = format!(
        "\n{{ \"zebra\" : [1.50, 1e3, \"\\u00e9\", null],\t\"layers\":[ {layer} ],\r\n \"mediaType\":\"{OCI_MANIFEST}\",\
         \"config\": {config}, \"schemaVersion\":2, \"annotations\": {{\"\": \"\"}} }}\n\n"
    );
    push_and_pull(repo, "odd", &Manifest { media_type: OCI_MANIFEST.to_owned(), bytes: text.into_bytes() });
}

fn parameters_of_the_content_type_are_ignored(repo: &Repo) {
    let image = Image::new(&[100]);
    repo.push_blobs(&image);
    let request =
        Request::put(repo.manifest_path("v1")).header("content-type", format!("{OCI_MANIFEST}; charset=utf-8"));
    repo.send(request.body(image.manifest.bytes.clone())).expect(201);
    assert_eq!(repo.get_manifest("v1").expect(200).required("content-type"), OCI_MANIFEST);
}

fn a_manifest_without_a_media_type_field_has_the_type_of_its_header(repo: &Repo) {
    let image = Image::with(&[100], |manifest| {
        manifest["x"] = json!("the field is taken out below");
    });
    let mut value: Value = serde_json::from_slice(&image.manifest.bytes).expect("JSON");
    value.as_object_mut().expect("an object").remove("mediaType");
    let bytes = serde_json::to_vec(&value).expect("JSON");
    repo.push_blobs(&image);
    push_and_pull(repo, "v1", &Manifest { media_type: OCI_MANIFEST.to_owned(), bytes });
}

fn a_media_type_field_that_contradicts_the_content_type_is_400(repo: &Repo) {
    let image = Image::new(&[100]);
    repo.push_blobs(&image);
    let contradicting = Manifest { media_type: DOCKER_MANIFEST.to_owned(), ..image.manifest };
    repo.send(repo.put_manifest("v1", &contradicting)).expect_error(400, "MANIFEST_INVALID");
    repo.get_manifest("v1").expect(404);
}

fn docker_manifests_and_lists_are_kept(repo: &Repo) {
    let image = Image::with(&[100], |manifest| {
        manifest["mediaType"] = DOCKER_MANIFEST.into();
        manifest["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json".into();
        manifest["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip".into();
    });
    repo.push_blobs(&image);
    push_and_pull(repo, "docker", &image.manifest);
    let mut child = image.manifest.descriptor();
    child["platform"] = json!({"architecture": "amd64", "os": "linux"});
    push_and_pull(
        repo,
        "list",
        &Manifest::new(&json!({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [child]})),
    );
}

fn an_index_of_images_and_indexes_is_kept(repo: &Repo) {
    let (one, two) = (Image::new(&[100]), Image::new(&[100]));
    for image in [&one, &two] {
        repo.push_image(&image.manifest.digest(), image);
    }
    let inner = index(&[&one.manifest, &two.manifest]);
    push_and_pull(repo, &inner.digest(), &inner);
    push_and_pull(repo, "nested", &index(&[&inner, &one.manifest]));
    push_and_pull(repo, "none", &index(&[]));
}

fn an_index_of_blobs_is_kept_if_the_blobs_exist(repo: &Repo) {
    let (layer, cache_config) = (unique(100), unique(50));
    let entries = [descriptor(OCI_LAYER, &layer), descriptor("application/vnd.buildkit.cacheconfig.v0", &cache_config)];
    for media_type in [OCI_INDEX, DOCKER_LIST] {
        let cache = Manifest::new(&json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries}));
        if media_type == OCI_INDEX {
            repo.send(repo.put_manifest("cache", &cache)).expect_error(404, "MANIFEST_BLOB_UNKNOWN");
            repo.push_blob(&layer);
            repo.push_blob(&cache_config);
        }
        push_and_pull(repo, "cache", &cache);
        repo.send(Request::delete(repo.blob_path(&sha256(&layer)))).expect(405);
    }
}

fn an_artifact_with_an_empty_config_is_kept(repo: &Repo) {
    let data = unique(300);
    for blob in [b"{}".as_slice(), &data] {
        repo.push_blob(blob);
    }
    let artifact = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/vnd.example.thing",
        "config": descriptor(EMPTY_TYPE, b"{}"), "layers": [descriptor("application/octet-stream", &data)],
    });
    push_and_pull(repo, "artifact", &Manifest::new(&artifact));
}

fn the_list_of_layers_may_be_empty(repo: &Repo) {
    let image = Image::new(&[]);
    repo.push_blobs(&image);
    push_and_pull(repo, "v1", &image.manifest);
}

fn a_manifest_that_two_readers_could_read_differently_is_400_with_the_place(repo: &Repo) {
    let image = Image::new(&[100]);
    repo.push_blobs(&image);
    let [config, layer] = [descriptor(OCI_CONFIG, &image.blobs[0]), descriptor(OCI_LAYER, &image.blobs[1])];
    let of =
        |more: &str| format!("{{\"schemaVersion\":2,\n\"mediaType\":\"{OCI_MANIFEST}\",\"config\":{config}{more}}}");
    let digest = &config["digest"];
    for (bytes, says) in [
        (format!("[2,\"{OCI_MANIFEST}\",{config},[]]").into_bytes(), "one JSON object"),
        (of(&format!(",\"layers\":[[\"{OCI_LAYER}\",{digest},2]]")).into_bytes(), "which is a JSON object"),
        (of(&format!(",\"layers\":[],\"Layers\":[{layer}]")).into_bytes(), "\"Layers\""),
        (of(",\"Manifests\":[]").into_bytes(), "\"Manifests\""),
        (of(&format!(",\"layers\":[],\"layers\":[{layer}]")).into_bytes(), "\"layers\" is there twice"),
        (of(",\"annotations\":{\"a\":\"1\",\"a\":\"2\"}").into_bytes(), "\"a\" is there twice"),
        ([of(",\"x\":\"").into_bytes(), b"\xff\xfe\"}".to_vec()].concat(), "not UTF-8"),
        (format!("{{\"schemaVersion\":2,\"mediaType\":\"{OCI_MANIFEST}\"}}").into_bytes(), "neither"),
    ] {
        let manifest = Manifest { media_type: OCI_MANIFEST.to_owned(), bytes };
        let errors = repo.send(repo.put_manifest("odd", &manifest)).expect_error(400, "MANIFEST_INVALID");
        let message = errors[0]["message"].as_str().expect("a text");
        assert!(message.contains(says), "{says}: {message}");
        assert!(message.contains("line") && message.contains("column") || says == "neither", "{message}");
        assert!(!message.contains("struct"), "{message}");
    }
    repo.get_manifest("odd").expect(404);
}

fn a_value_that_serializers_write_for_an_absent_field_counts_as_absent(repo: &Repo) {
    let image = Image::with(&[100], |manifest| {
        for field in ["annotations", "subject", "artifactType"] {
            manifest[field] = Value::Null;
        }
        for field in ["annotations", "urls", "data", "platform", "artifactType"] {
            manifest["layers"][0][field] = Value::Null;
        }
        manifest["config"]["annotations"] = json!({"a": null});
        manifest["mediaType"] = "".into();
    });
    repo.push_blobs(&image);
    push_and_pull(repo, "v1", &Manifest { media_type: OCI_MANIFEST.to_owned(), ..image.manifest });
    let image = Image::with(&[], |manifest| manifest["layers"] = Value::Null);
    repo.push_blobs(&image);
    push_and_pull(repo, "v2", &image.manifest);
}

fn one_layer_may_be_listed_twice(repo: &Repo) {
    let image = Image::with(&[100], |manifest| {
        let layer = manifest["layers"][0].clone();
        manifest["layers"] = json!([layer, layer]);
    });
    repo.push_blobs(&image);
    push_and_pull(repo, "v1", &image.manifest);
}

fn a_foreign_layer_may_be_absent(repo: &Repo) {
    for media_type in [
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ] {
        let image = Image::with(&[100], |manifest| {
            let mut foreign = descriptor(media_type, &unique(100));
            foreign["urls"] = json!(["https://layers.example/1"]);
            manifest["layers"].as_array_mut().expect("a list").push(foreign);
        });
        repo.push_blobs(&image);
        push_and_pull(repo, "foreign", &image.manifest);
    }
}

fn a_manifest_that_names_missing_blobs_is_404_with_all_of_them(repo: &Repo) {
    let image = Image::new(&[100, 200, 300]);
    repo.push_blob(&image.blobs[1]);
    let response = repo.send(repo.put_manifest("v1", &image.manifest));
    let text = String::from_utf8_lossy(&response.body).into_owned();
    response.expect_error(404, "MANIFEST_BLOB_UNKNOWN");
    for (blob, missing) in image.blobs.iter().zip([true, false, true, true]) {
        assert_eq!(text.contains(&sha256(blob)), missing, "{} in {text}", sha256(blob));
    }
    repo.get_manifest("v1").expect(404);
    repo.get_manifest(&image.manifest.digest()).expect(404);
    // nothing of the refusal stays behind: with the blobs there it is taken
    repo.push_image("v1", &image);
}

/// A client that cannot read a blob must not get it by naming it.
fn a_blob_of_another_repository_is_missing_here(repo: &Repo) {
    let image = Image::new(&[100]);
    let other = repo.sibling("other");
    repo.push_image("v1", &image);
    let response = other.send(other.put_manifest("v1", &image.manifest));
    let text = String::from_utf8_lossy(&response.body).into_owned();
    response.expect_error(404, "MANIFEST_BLOB_UNKNOWN");
    for blob in &image.blobs {
        assert!(text.contains(&sha256(blob)), "{} in {text}", sha256(blob));
        other.get_blob(&sha256(blob)).expect(404);
    }
}

fn an_index_that_names_missing_children_is_404_with_all_of_them(repo: &Repo) {
    let here = Image::new(&[100]);
    repo.push_image(&here.manifest.digest(), &here);
    let missing = [Image::new(&[100]).manifest, Image::new(&[100]).manifest];
    let response = repo.send(repo.put_manifest("v1", &index(&[&missing[0], &here.manifest, &missing[1]])));
    let text = String::from_utf8_lossy(&response.body).into_owned();
    response.expect_error(404, "MANIFEST_BLOB_UNKNOWN");
    for manifest in &missing {
        assert!(text.contains(&manifest.digest()), "{} in {text}", manifest.digest());
    }
    assert!(!text.contains(&here.manifest.digest()), "{text}");
}

fn a_tag_means_the_last_pushed_manifest(repo: &Repo) {
    let first = repo.push_image("v1", &Image::new(&[100]));
    let second = repo.push_image("v1", &Image::new(&[100]));
    assert_eq!(repo.pull_image("v1"), second);
    assert_eq!(repo.pull_image(&first), first);
}

fn a_manifest_that_is_pushed_again_is_201(repo: &Repo) {
    let image = Image::new(&[100]);
    repo.push_image("v1", &image);
    repo.push_image("v1", &image);
    assert_eq!(repo.push_image("v2", &image), repo.pull_image("v1"));
}

fn every_requested_tag_is_set_and_named_in_oci_tag(repo: &Repo) {
    let image = Image::new(&[100]);
    repo.push_blobs(&image);
    let tags: Vec<_> = (0..12).map(|number| format!("1.{number}")).collect();
    let digest = image.manifest.digest();
    let reference = format!("{digest}?tag={}", tags.join("&tag="));
    let response = repo.send(repo.put_manifest(&reference, &image.manifest)).expect(201);
    let told: Vec<_> = response
        .headers
        .get_all("oci-tag")
        .iter()
        .flat_map(|line| line.to_str().expect("text").split(','))
        .map(str::trim)
        .collect();
    assert_eq!(told.len(), tags.len(), "{told:?}");
    for tag in &tags {
        assert!(told.contains(&tag.as_str()), "{tag} in {told:?}");
        assert_eq!(repo.pull_image(tag), digest);
    }
}

fn a_malformed_tag_among_the_requested_ones_is_400_and_sets_no_tag(repo: &Repo) {
    let image = Image::new(&[100]);
    repo.push_blobs(&image);
    let reference = format!("{}?tag=good&tag=-bad", image.manifest.digest());
    repo.send(repo.put_manifest(&reference, &image.manifest)).expect(400);
    repo.get_manifest("good").expect(404);
}

fn oci_subject_names_the_subject(repo: &Repo) {
    let subject = Image::new(&[100]);
    repo.push_image("v1", &subject);
    let referrer = Image::referrer(&subject.manifest, "application/vnd.example.sig");
    repo.push_blobs(&referrer);
    let response = repo.send(repo.put_manifest(&referrer.manifest.digest(), &referrer.manifest)).expect(201);
    assert_eq!(response.required("oci-subject"), subject.manifest.digest());
    let plain = repo.send(repo.put_manifest("v1", &subject.manifest)).expect(201);
    assert_eq!(plain.header("oci-subject"), None);
}

fn a_subject_may_be_absent(repo: &Repo) {
    let subject = Image::new(&[100]);
    let referrer = Image::referrer(&subject.manifest, "application/vnd.example.sig");
    repo.push_blobs(&referrer);
    let response = repo.send(repo.put_manifest("sig", &referrer.manifest)).expect(201);
    assert_eq!(response.required("oci-subject"), subject.manifest.digest());
    repo.push_image("v1", &subject);
    repo.pull_image("sig");
}

/// Returns an image with a manifest of exactly `size` bytes.
fn manifest_of(size: usize) -> Image {
    let image = Image::with(&[100], |manifest| manifest["annotations"] = json!({"padding": ""}));
    let missing = size - image.manifest.bytes.len();
    let text = String::from_utf8(image.manifest.bytes).expect("UTF-8");
    let text = text.replace("\"padding\": \"\"", &format!("\"padding\": \"{}\"", "p".repeat(missing)));
    assert_eq!(text.len(), size);
    Image { manifest: Manifest { media_type: OCI_MANIFEST.to_owned(), bytes: text.into_bytes() }, ..image }
}

fn a_manifest_of_4_mebibytes_is_taken(repo: &Repo) {
    let image = manifest_of(4 * 1024 * 1024);
    repo.push_blobs(&image);
    push_and_pull(repo, "large", &image.manifest);
}

fn a_manifest_over_the_limit_is_413(repo: &Repo) {
    let image = manifest_of(4 * 1024 * 1024 + 1);
    repo.push_blobs(&image);
    repo.send(repo.put_manifest("large", &image.manifest)).expect(413);
    repo.send(repo.put_manifest("large", &image.manifest).chunked()).expect(413);
    repo.get_manifest("large").expect(404);
}

fn names_and_tags_of_every_allowed_shape_work(repo: &Repo) {
    let image = Image::new(&[100]);
    for suffix in ["a__b/c--d", "a.b_c-d/0", "a---b", "blobs/uploads", "manifests/tags/list"] {
        let repo = repo.sibling(suffix);
        for tag in ["v1", "_", "A.b-C_9", &"t".repeat(128), "latest..", "1--2"] {
            let digest = repo.push_image(tag, &image);
            assert_eq!(repo.pull_image(tag), digest);
        }
        assert_eq!(repo.tags("").len(), 6);
    }
}

crate::support::on_each_backend!(shared:
    a_manifest_put_by_tag_is_201_with_a_pullable_location,
    a_manifest_put_by_digest_is_201_with_a_pullable_location,
    a_manifest_put_by_sha512_is_kept_under_it,
    a_manifest_pushed_under_another_digest_is_400_and_not_stored,
    the_exact_bytes_are_kept_with_unknown_fields_and_spaces,
    parameters_of_the_content_type_are_ignored,
    a_manifest_without_a_media_type_field_has_the_type_of_its_header,
    a_media_type_field_that_contradicts_the_content_type_is_400,
    docker_manifests_and_lists_are_kept,
    an_index_of_images_and_indexes_is_kept,
    an_index_of_blobs_is_kept_if_the_blobs_exist,
    an_artifact_with_an_empty_config_is_kept,
    the_list_of_layers_may_be_empty,
    a_manifest_that_two_readers_could_read_differently_is_400_with_the_place,
    a_value_that_serializers_write_for_an_absent_field_counts_as_absent,
    one_layer_may_be_listed_twice,
    a_foreign_layer_may_be_absent,
    a_manifest_that_names_missing_blobs_is_404_with_all_of_them,
    a_blob_of_another_repository_is_missing_here,
    an_index_that_names_missing_children_is_404_with_all_of_them,
    a_tag_means_the_last_pushed_manifest,
    a_manifest_that_is_pushed_again_is_201,
    every_requested_tag_is_set_and_named_in_oci_tag,
    a_malformed_tag_among_the_requested_ones_is_400_and_sets_no_tag,
    oci_subject_names_the_subject,
    a_subject_may_be_absent,
    a_manifest_of_4_mebibytes_is_taken,
    a_manifest_over_the_limit_is_413,
    names_and_tags_of_every_allowed_shape_work,
);
