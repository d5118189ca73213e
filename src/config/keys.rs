//! Lists the keys of the configuration, from the code that reads them, so the list is never out of date.

use std::sync::LazyLock;

use super::decode;
use crate::diagnostics::{KeyFacts, Keys, LIST, Reading, Source, parse};

/// All keys, found by reading a configuration that has each table.
pub(super) static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let source = Source::new("", "storage.s3 = {}\nrepository.namespace.upstream = [{}]\nidentity.id = {}");
    let none = Keys::default();
    let entries = parse(0, &source, &none).unwrap_or_default();
    let reading = Reading::new(&[], &none, false);
    decode::config(&reading, &entries);
    let keys = reading.finish().unwrap_or_default().into_iter();
    let any = |path: &str| {
        path.replace("repository.namespace", ANY_REPOSITORY).replace("identity.id.", ANY_IDENTITY).replace("[0]", LIST)
    };
    Keys::new(keys.map(|key| KeyFacts { path: any(&key.path), ..key }).collect())
});

/// The free key of `[repository."..."]`, as the path of a key has it.
const ANY_REPOSITORY: &str = "repository.\"<namespace>\"";
/// The same for `[identity.<id>]`.
const ANY_IDENTITY: &str = "identity.<id>.";
