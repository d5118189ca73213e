//! Tests the progress that a run reports.

use simple_registry::scrub::Pass;

use crate::scrub::world::{self, config, full, name, push_blob, push_image, scrub_with, server};

/// Blobs beside those of images.
const BLOBS: u32 = 300;

/// Makes a store of many repositories and blobs.
async fn many() -> tempfile::TempDir {
    let store = full().await;
    let server = server(store.path()).await;
    for number in 0..8 {
        let of = name(&format!("many/of-{number}"));
        push_image(&server, &of, &format!("image {number}"), &["v1", "v2"], None).await;
    }
    for number in 0..BLOBS {
        push_blob(&server, &name("other"), &number.to_be_bytes()).await;
    }
    world::age(store.path());
    store
}

#[tokio::test]
async fn every_pass_knows_its_total_and_that_is_never_less_than_what_is_done() {
    let store = many().await;
    let (all, repositories) = (Pass::ALL.to_vec(), 10);
    let alone = Pass::ALL.map(|pass| vec![pass]);
    for passes in alone.into_iter().chain([all]) {
        let run = |options: &mut simple_registry::scrub::Options| {
            options.dry_run = true;
            options.passes = passes.iter().copied().collect();
        };
        let (summary, told) = scrub_with(store.path(), &config(), run).await.unwrap();
        for &pass in &passes {
            let said = told.progress_of(pass);
            // scrub goes over uploads once, together with garbage
            assert!(!said.is_empty() || (pass == Pass::Uploads && passes.len() > 1), "{pass:?} of {passes:?}");
            assert!(said.iter().all(|(done, total)| done <= total), "{pass:?} of {passes:?}: {said:?}");
            assert!(said.is_sorted_by_key(|(done, _)| *done), "{pass:?} of {passes:?}: {said:?}");
            if matches!(pass, Pass::Retention | Pass::Garbage | Pass::Links) {
                let first: Vec<(u64, u64)> = said.iter().take(10).copied().collect();
                let expected: Vec<(u64, u64)> = (1..=repositories).map(|done| (done, repositories)).collect();
                assert_eq!(first, expected, "{pass:?} of {passes:?}");
            }
            if pass == Pass::Content {
                let read = summary.verified.number;
                assert_eq!(said.last(), Some(&(read, read)));
                assert!(read > u64::from(BLOBS));
                for (done, total) in said.iter().filter(|(done, _)| *done > 150) {
                    assert!((read * 3 / 4..=read * 5 / 4).contains(total), "{done} of {total}, and it is {read}");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_a_run_does_not_cover_is_in_no_total() {
    let store = many().await;
    let run = |options: &mut simple_registry::scrub::Options| {
        options.repository = Some(name("many"));
        options.passes = [Pass::Links, Pass::Retention, Pass::Garbage].into();
    };
    let (_, told) = scrub_with(store.path(), &config(), run).await.unwrap();
    for pass in [Pass::Links, Pass::Retention, Pass::Garbage] {
        assert_eq!(told.progress_of(pass).last(), Some(&(8, 8)), "{pass:?}");
    }
}
