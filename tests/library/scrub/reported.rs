//! Tests that scrub reports a fault before it notes or repairs it. If the report fails, the run ends, and the next run
//! reports the fault as new.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use simple_registry::scrub::{Event, Observer, Options, Outcome, Pass, ScrubError};

use crate::scrub::world::{age, config, content, keys, name, push_image, scrub_before, scrub_with, server, store};

/// An observer whose report cannot be written.
struct FullDisk;

impl Observer for FullDisk {
    fn event(&self, event: &Event) -> Result<(), String> {
        match event {
            Event::Finding(_) => Err("no space left on device".to_owned()),
            Event::Removal(_) | Event::Later(_) => Ok(()),
        }
    }

    fn progress(&self, _pass: Pass, _done: u64, _total: u64) {}
}

/// Flips a bit of the first `number` objects whose keys contain `part`.
fn damage(root: &Path, number: usize, part: &str) {
    for key in keys(root).into_iter().filter(|key| key.contains(part)).take(number) {
        let mut bytes = fs::read(root.join(&key)).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(root.join(&key), bytes).unwrap();
    }
}

/// Returns the objects that tell of faults, and the manifests.
fn told_by(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let parts = ["quarantine/", "corrupt/", "!corrupt.", "/manifests/"];
    content(root).into_iter().filter(|(key, _)| parts.iter().any(|part| key.contains(part))).collect()
}

#[tokio::test]
async fn a_run_that_cannot_report_a_fault_leaves_the_fault_to_the_next_run() {
    let (repaired, quarantined) = (Outcome::Repaired, Outcome::Quarantined);
    for (pushes, number, damaged, pass, outcome) in [
        (1, 1, "/manifests/", Pass::Content, quarantined),
        (2, 1, "/manifests/", Pass::Content, repaired),
        (1, 1, "/manifests/", Pass::Links, quarantined),
        (2, 1, "/manifests/", Pass::Links, repaired),
        (1, 1, "data/", Pass::Content, quarantined),
        (2, 1, "data/", Pass::Content, repaired),
        (2, 1, "data/", Pass::Garbage, repaired),
        (2, 4, "data/", Pass::Garbage, quarantined),
    ] {
        let case = format!("{number} of {damaged} after {pushes} pushes, {pass:?}");
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let server = server(root).await;
        for _ in 0..pushes {
            push_image(&server, &name("team/app"), "one", &["v1"], None).await;
        }
        damage(root, number, damaged);
        age(root);
        let before = told_by(root);
        let only = |options: &mut Options| options.passes = [pass].into();
        let failed = scrub_before(Arc::new(FullDisk), &store(root).await, &config(), only).await.unwrap_err();
        assert!(matches!(failed.error, ScrubError::Record(_)), "{case}: {failed}");
        let news: Vec<String> = told_by(root)
            .into_iter()
            .filter(|(key, bytes)| before.get(key) != Some(bytes))
            .map(|(key, _)| key)
            .collect();
        assert_eq!(news, [""; 0], "{case}");
        // a mark of the run that failed is old by then
        age(root);
        let (_, told) = scrub_with(root, &config(), only).await.unwrap();
        let outcomes: Vec<Outcome> = told.findings().iter().map(|finding| finding.outcome).collect();
        assert_eq!(outcomes, vec![outcome; number], "{case}: {:?}", told.findings());
    }
}
