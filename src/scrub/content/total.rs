//! Estimates how many things a check reads back, from its progress.
//!
//! Blobs come in the order of their digests, which are spread evenly. So their number follows from the number that was
//! read and the first digits of the last one. Manifests come repository by repository. Repositories that are left count
//! as many manifests as the average of those before.

use std::collections::HashMap;

use super::{cursor::Part, manifests};
use crate::{
    oci::{Algorithm, Digest, Name},
    records::key::{Owner, Prefix},
};

/// The length of the range of an algorithm's digests, by their first digits.
const WHOLE: u64 = 1 << 32;

/// The progress of a check.
#[derive(Debug)]
pub(super) struct Total {
    /// The number of things that were read back.
    read: u64,
    /// The last digest that the check passed.
    at: Place,
    blobs: HashMap<Algorithm, Stretch>,
    /// The number of repositories, and how many of them the check passed.
    repositories: u64,
    passed: u64,
    last: Option<Name>,
    /// The number of manifests that were read back.
    manifests: u64,
}

/// A place among digests: the length of the range of an algorithm up to it.
type Place = (Algorithm, u64);

/// The range of an algorithm's digests that the check passed.
#[derive(Clone, Copy, Debug, Default)]
struct Stretch {
    length: u64,
    read: u64,
}

impl Total {
    /// Starts the estimate for a check that reads the manifests of this many repositories.
    pub(super) fn new(repositories: u64) -> Self {
        let at = (Algorithm::Sha256, 0);
        Self { read: 0, at, blobs: HashMap::new(), repositories, passed: 0, last: None, manifests: 0 }
    }

    /// Begins a part.
    pub(super) fn begin(&mut self, part: &Part) {
        if part.prefix == Prefix::Blobs {
            self.at = part.after.as_deref().and_then(place).unwrap_or((Algorithm::Sha256, 0));
        }
    }

    /// Ends a part.
    pub(super) fn end(&mut self, part: &Part) {
        if part.prefix == Prefix::Blobs {
            self.go_to(part.until.as_deref().and_then(place).unwrap_or((self.at.0, WHOLE)));
        }
    }

    /// Records that the check passed this key with `read` things read back in all. Returns about how many it will have
    /// read at the end.
    pub(super) fn went_by(&mut self, key: &str, read: u64) -> u64 {
        let news = read.saturating_sub(self.read);
        self.read += news;
        if let Some(place) = place(key) {
            self.go_to(place);
            self.blobs.entry(place.0).or_default().read += news;
        } else {
            self.manifests += news;
            let name = manifests::thing(key).map(|(name, ..)| name);
            // repositories that the run does not cover do not count
            if news > 0 && name != self.last {
                self.passed += 1;
                self.last = name;
            }
        }
        self.about()
    }

    /// Moves to a place, and counts the range before it as passed.
    fn go_to(&mut self, to: Place) {
        let (algorithm, mut from) = self.at;
        if algorithm != to.0 {
            self.blobs.entry(algorithm).or_default().length += WHOLE - from;
            from = 0;
        }
        self.blobs.entry(to.0).or_default().length += to.1.saturating_sub(from);
        self.at = to;
    }

    fn about(&self) -> u64 {
        let blobs: u64 = self.blobs.values().map(|stretch| stretch.about()).sum();
        let left = self.repositories.saturating_sub(self.passed);
        // before the first manifest, each repository counts as one
        let left = if self.passed == 0 { left } else { scaled(self.manifests, left, self.passed) };
        (blobs + self.manifests + left).max(self.read)
    }
}

impl Stretch {
    /// Estimates the number of blobs in the whole range. The last blob defines the end of the stretch, so it does not
    /// count for the density.
    fn about(self) -> u64 {
        self.read.min(1) + scaled(self.read.saturating_sub(1), WHOLE, self.length.max(1))
    }
}

/// Returns `number * of / to`.
fn scaled(number: u64, of: u64, to: u64) -> u64 {
    u64::try_from(u128::from(number) * u128::from(of) / u128::from(to)).unwrap_or(u64::MAX)
}

/// Returns the place of a blob's key. Returns nothing for any other key.
fn place(key: &str) -> Option<Place> {
    let digest: Digest = Owner::digest(key)?;
    let first = u64::from_str_radix(&digest.hex()[..8], 16).ok()?;
    Some((digest.algorithm(), first + 1))
}

#[cfg(test)]
mod tests {
    use super::{super::cursor::parts, *};
    use crate::action::UploadId;
    use crate::records::key::{BlobKey, ManifestKey, Ordinal, Suffix, Version};

    /// Returns the keys of this many blobs of each algorithm, in order.
    fn blobs(numbers: &[(Algorithm, u32)]) -> Vec<String> {
        let id: UploadId = "01234567-89ab-cdef-0123-456789abcdef".parse().unwrap();
        let of = |algorithm, number: u32| BlobKey::Copy(id.clone()).of(&Digest::of(algorithm, &number.to_be_bytes()));
        let all = numbers.iter().flat_map(|(algorithm, most)| (0..*most).map(move |number| of(*algorithm, number)));
        let mut keys: Vec<String> = all.collect();
        keys.sort();
        keys
    }

    fn manifests(repositories: u32, each: u32) -> Vec<String> {
        let digest = |number: u32| Digest::of(Algorithm::Sha256, &number.to_be_bytes());
        let of = |name: &Name, number| {
            ManifestKey::Version(Version { ordinal: Ordinal(1), there: true }, Suffix::random())
                .of(name, &digest(number))
        };
        let names = (0..repositories).map(|number| format!("r{number:04}").parse::<Name>().unwrap());
        let mut keys: Vec<String> =
            names.flat_map(|name| (0..each).map(|number| of(&name, number)).collect::<Vec<_>>()).collect();
        keys.sort();
        keys
    }

    /// Returns the reports for each key, by a check that begins behind `after` and reads each `one_in`-th.
    fn said(keys: &[String], repositories: u64, after: Option<&String>, one_in: u64) -> Vec<(u64, u64)> {
        let (mut total, mut gone_by, mut said) = (Total::new(repositories), 0, Vec::new());
        for part in parts(after.cloned()) {
            total.begin(&part);
            let within = |key: &&String| {
                part.prefix.has(key)
                    && part.after.as_ref().is_none_or(|after| *key > after)
                    && part.until.as_ref().is_none_or(|until| *key <= until)
            };
            for key in keys.iter().filter(within) {
                gone_by += 1;
                said.push((gone_by / one_in, total.went_by(key, gone_by / one_in)));
            }
            total.end(&part);
        }
        said
    }

    #[test]
    fn the_total_is_about_right_wherever_a_check_begins_and_is_right_at_the_end() {
        let (one, two) =
            (blobs(&[(Algorithm::Sha256, 2000)]), blobs(&[(Algorithm::Sha256, 1000), (Algorithm::Sha512, 1000)]));
        for (keys, after, one_in, from) in [
            (&one, None, 1, 200),
            (&one, Some(500), 1, 200),
            (&one, Some(1990), 1, 200),
            (&one, None, 10, 1000),
            // the number of the other algorithm is known once its range has begun
            (&two, None, 1, 1200),
            (&two, Some(300), 1, 1200),
            (&two, Some(1300), 1, 1200),
        ] {
            let said = said(keys, 0, after.map(|at: usize| &keys[at]), one_in);
            assert!(said.iter().all(|(read, total)| total >= read), "{after:?}");
            let all = 2000 / one_in;
            for (read, total) in &said[from..] {
                assert!((all * 8 / 10..=all * 12 / 10).contains(total), "{after:?} {one_in}: {read} of {total}");
            }
            let (read, total) = said[said.len() - 1];
            assert!(read == all && total <= all + 2, "{after:?}: {read} of {total}");
        }
    }

    #[test]
    fn manifests_that_are_left_are_as_many_as_those_of_repositories_before() {
        let (keys, of) = (manifests(20, 10), blobs(&[(Algorithm::Sha256, 500)]));
        let total = said(&keys, 20, None, 1);
        assert_eq!((total[0], total[9], total[199]), ((1, 20), (10, 200), (200, 200)));
        let both = [of, keys].concat();
        let total = said(&both, 20, Some(&both[600]), 1);
        assert!(total.iter().all(|(read, total)| total >= read));
        assert!((680..=720).contains(&total[650].1), "{:?}", total[650]);
    }
}
