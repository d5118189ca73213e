//! Opens a store: connects to its directory or bucket, checks that the place is usable, and checks its layout.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use futures::TryStreamExt as _;
use opendal::{
    ErrorKind, HttpTransporter, OperationContext, Operator,
    layers::{RetryLayer, TimeoutLayer},
    services::S3,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::{
    Clock, FORMAT, Inner, ROOTS, Store, UNSYNCED,
    answers::{self, CheckedAnswers},
    dated::Dated,
    disk,
    probe::{self, Lacks},
    silence::BoundedSilence,
};
use crate::{memory::Memory, telemetry::Metrics};

/// The layout that this version writes and reads.
const LAYOUT: u32 = 2;
/// The most time of one step in a directory, and the longest silence of a bucket's server during a request.
pub(super) const STEP: Duration = Duration::from_secs(20);

/// The place of a store.
#[derive(Clone, Debug)]
pub enum Location {
    /// A directory.
    Directory {
        /// The directory. A missing directory is created.
        root: PathBuf,
        /// True if writes and deletes are synced to the disk before they are acknowledged.
        durable: bool,
        /// The bytes that a pull reads at a time.
        chunk: usize,
    },
    /// A bucket of an S3 server.
    Bucket {
        /// Base URL of the server.
        endpoint: String,
        /// The bucket, which must exist.
        bucket: String,
        /// The region of the bucket.
        region: String,
        /// The beginning of all keys.
        key_prefix: String,
        /// The id of the access key.
        access_key_id: String,
        /// The secret of the access key.
        secret_key: SecretString,
        /// The least bytes of a part of a multipart upload.
        part_size: usize,
    },
}

/// The reason why a store cannot be used. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store does not answer, or refuses.
    #[error("the store at {place} cannot be used: {hint}: {cause}")]
    Unusable {
        /// The place of the store.
        place: String,
        /// The likely reason and the next step.
        hint: &'static str,
        /// The error of the backend.
        cause: Box<opendal::Error>,
    },
    /// The store has the layout of another version.
    #[error(
        "the store at {place} has layout {found}, and this version reads layout {LAYOUT}; start a new store at another place, \
         or use the build that wrote this one"
    )]
    Layout {
        /// The place of the store.
        place: String,
        /// The number in its `format` object, or the beginning of the object in quotes.
        found: String,
    },
    /// The place holds keys of the layout, but no `format` object.
    #[error(
        "{place} holds {found:?} but no object `format`, so it is no whole store of this registry; restore `format` from \
         a backup, or point the configuration at another place"
    )]
    Occupied {
        /// The place of the store.
        place: String,
        /// The first key found.
        found: String,
    },
    /// The place holds no store, and the caller asked not to create one.
    #[error("there is no store at {place}; check the configuration, or start a server on it once to make one")]
    Absent {
        /// The place of the store.
        place: String,
    },
    /// The directory belongs to another user, and the two would make files that the other cannot read.
    #[error(
        "{place} belongs to the user with id {owner}, and this process writes as the user with id {writer}: each would make files \
         that the other cannot read; run it as the owner (sudo -u '#{owner}' ...), or give the whole directory to user {writer}"
    )]
    OtherOwner {
        /// The place of the store.
        place: String,
        /// The id of the user who owns its `format` object.
        owner: u32,
        /// The id of the user who owns what this process writes.
        writer: u32,
    },
    /// The backend overwrites objects that are to be created exclusively.
    #[error(
        "the store at {place} overwrites an object that was to be written only if it is new (If-None-Match: *); \
         two uploads could tear each other there, so it is refused; use an S3 server that honours conditional writes"
    )]
    NotExclusive {
        /// The place of the store.
        place: String,
    },
    /// The backend lists keys out of order, or not all of them.
    #[error(
        "the store at {place} does not list all keys in the order of their bytes; what it lists would be taken for all \
         there is, so it is refused; use an S3 server that lists as Amazon S3 does"
    )]
    Unordered {
        /// The place of the store.
        place: String,
    },
    /// The backend cannot read a part of an object.
    #[error(
        "the store at {place} answers a read of some bytes of an object with others (it ignores Range), so it is refused; \
         use an S3 server, or a proxy before it, that honours Range"
    )]
    NoRanges {
        /// The place of the store.
        place: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Format {
    layout: u32,
}

impl Location {
    /// Returns the place for messages, without credentials.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Directory { root, .. } => format!("directory {}", root.display()),
            Self::Bucket { endpoint, bucket, key_prefix, .. } => {
                format!("bucket {bucket} of {endpoint} under {:?}", format!("/{}", key_prefix.trim_matches('/')))
            }
        }
    }

    fn operator(&self, clock: &Clock, memory: &Arc<Memory>) -> opendal::Result<(Operator, Option<disk::Directory>)> {
        match self {
            Self::Directory { root, durable, chunk } => {
                let unsynced = &[UNSYNCED];
                let options =
                    disk::DiskOptions { durable: *durable, unsynced, chunk: *chunk, memory: Arc::clone(memory) };
                disk::operator_with_directory(root, options).map(|(operator, directory)| (operator, Some(directory)))
            }
            Self::Bucket { endpoint, bucket, region, key_prefix, access_key_id, secret_key, .. } => {
                let builder = S3::default()
                    .endpoint(endpoint)
                    .bucket(bucket)
                    .region(region)
                    .root(key_prefix)
                    .access_key_id(access_key_id)
                    .secret_access_key(secret_key.expose_secret())
                    .checksum_algorithm("crc32c")
                    // use the configured credentials only: none from the environment or from the machine's metadata
                    .disable_config_load()
                    .disable_ec2_metadata();
                opendal::install_default();
                let answers = HttpTransporter::new(CheckedAnswers(HttpTransporter::new(BoundedSilence(STEP))));
                let answers = HttpTransporter::new(Dated { transport: answers, clock: clock.clone() });
                let context = OperationContext::new().with_http_transport(answers);
                Operator::new(builder).map(|operator| (operator.with_context(context), None))
            }
        }
    }
}

impl Store {
    /// Opens the store at `location`, creates it if the place is empty, and checks that exclusive creation works. `memory`
    /// bounds everything that is remembered of it.
    ///
    /// The time of a start does not depend on the size of the store.
    ///
    /// # Errors
    /// The place is unusable, lacks a guarantee, has another layout, or holds keys of the layout without a `format`
    /// object.
    pub async fn open(location: &Location, memory: &Arc<Memory>, metrics: Metrics) -> Result<Self, OpenError> {
        Self::open_or(location, memory, metrics, true).await
    }

    /// Opens as [`Store::open`], but creates nothing: a place without a store is an error.
    pub async fn open_existing(location: &Location, memory: &Arc<Memory>, metrics: Metrics) -> Result<Self, OpenError> {
        match location {
            Location::Directory { root, .. } if matches!(root.try_exists(), Ok(false)) => {
                Err(OpenError::Absent { place: location.place() })
            }
            _ => Self::open_or(location, memory, metrics, false).await,
        }
    }

    async fn open_or(
        location: &Location,
        memory: &Arc<Memory>,
        metrics: Metrics,
        make: bool,
    ) -> Result<Self, OpenError> {
        let place = location.place();
        let clock = Clock::default();
        let (operator, directory) = location.operator(&clock, memory).map_err(|error| unusable(&place, error))?;
        let part_size = match location {
            Location::Directory { .. } => None,
            Location::Bucket { part_size, .. } => Some(*part_size),
        };
        // the client of a bucket bounds silence, and a step in a directory shows no progress to measure
        let operator = if part_size.is_some() { operator } else { operator.layer(bounded_steps()) };
        let store = Self::with_directory(operator, clock, part_size, directory, Arc::clone(memory), metrics);
        store.check_format(&place, make).await?;
        if let Location::Directory { root, .. } = location
            && let Some((owner, writer)) =
                disk::other_owner(root, FORMAT).map_err(|error| unreadable(&place, &error))?
        {
            return Err(OpenError::OtherOwner { place, owner, writer });
        }
        Ok(store)
    }

    /// Returns a store over any operator, without checks. `part_size` is as in [`Location::Bucket`]. For tests.
    #[must_use]
    pub fn over(operator: Operator, part_size: Option<usize>, metrics: Metrics) -> Self {
        let memory = Memory::new(64 << 20);
        Self::with_directory(operator.layer(bounded_steps()), Clock::default(), part_size, None, memory, metrics)
    }

    pub(super) fn with_directory(
        operator: Operator,
        clock: Clock,
        part_size: Option<usize>,
        directory: Option<disk::Directory>,
        memory: Arc<Memory>,
        metrics: Metrics,
    ) -> Self {
        let retry = RetryLayer::new()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(2))
            .with_max_times(3)
            .with_jitter();
        let ordered_listings = part_size.is_some();
        let operator = operator.layer(retry);
        let ahead = Arc::new(tokio::sync::Semaphore::new(super::write::AHEAD));
        Self {
            inner: Arc::new(Inner { operator, clock, metrics, memory, ordered_listings, part_size, directory, ahead }),
        }
    }

    /// Reads the `format` object, to check that the store answers.
    ///
    /// # Errors
    /// The store does not answer, or the `format` object is missing.
    pub async fn ready(&self) -> super::Result<()> {
        match self.get(FORMAT).await? {
            Some(_) => Ok(()),
            None => Err(super::StorageError::damaged("get", FORMAT, "the store is not there any more")),
        }
    }

    /// Returns a key of the layout, if the store has one. Lists no other keys.
    async fn first_of_layout(&self) -> opendal::Result<Option<String>> {
        for prefix in ROOTS {
            let lister = self.inner.operator.lister_with(prefix).recursive(true).limit(1).await?;
            let mut files = lister.try_filter(|entry| std::future::ready(entry.metadata().is_file()));
            if let Some(entry) = files.try_next().await? {
                return Ok(Some(entry.path().to_owned()));
            }
        }
        Ok(None)
    }

    async fn check_format(&self, place: &str, make: bool) -> Result<(), OpenError> {
        let operator = &self.inner.operator;
        let failed = |error| unusable(place, error);
        let ours = serde_json::json!(Format { layout: LAYOUT }).to_string() + "\n";
        let found = match operator.read(FORMAT).await {
            Ok(found) => found.to_vec(),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if let Some(found) = self.first_of_layout().await.map_err(failed)? {
                    return Err(OpenError::Occupied { place: place.to_owned(), found });
                }
                if !make {
                    return Err(OpenError::Absent { place: place.to_owned() });
                }
                ours.clone().into_bytes()
            }
            Err(error) => return Err(failed(error)),
        };
        if !matches!(serde_json::from_slice(&found), Ok(Format { layout: LAYOUT })) {
            let text = || format!("{:?}", String::from_utf8_lossy(&found[..found.len().min(60)]).trim());
            let found = serde_json::from_slice(&found).map_or_else(|_| text(), |Format { layout }| layout.to_string());
            return Err(OpenError::Layout { place: place.to_owned(), found });
        }
        // write twice with the same content: the store must refuse the second write, whatever it did with the first
        let mut written = 0;
        for _ in 0..2 {
            match operator.write_with(FORMAT, found.clone()).if_not_exists(true).await {
                Ok(_) => written += 1,
                Err(error) if matches!(error.kind(), ErrorKind::ConditionNotMatch | ErrorKind::AlreadyExists) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let place = place.to_owned();
        if written == 2 {
            return Err(OpenError::NotExclusive { place });
        }
        let is_bucket = self.inner.part_size.is_some();
        let lacks =
            if is_bucket { probe::probe(operator).await.map_err(|error| unusable(&place, error))? } else { None };
        match lacks {
            None => Ok(()),
            Some(Lacks::ExclusiveCreate) => Err(OpenError::NotExclusive { place }),
            Some(Lacks::Order) => Err(OpenError::Unordered { place }),
            Some(Lacks::Ranges) => Err(OpenError::NoRanges { place }),
        }
    }
}

/// Returns a limit for the time of each step.
fn bounded_steps() -> TimeoutLayer {
    TimeoutLayer::new().with_timeout(STEP).with_io_timeout(STEP)
}

fn unreadable(place: &str, error: &io::Error) -> OpenError {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        _ => ErrorKind::Unexpected,
    };
    unusable(place, opendal::Error::new(kind, error.to_string()))
}

fn unusable(place: &str, error: opendal::Error) -> OpenError {
    let text = error.to_string();
    let hint = if text.contains(answers::NO_BUCKET) {
        "there is no such bucket; create it, or correct storage.s3.bucket"
    } else if text.contains("InvalidAccessKeyId") || text.contains("SignatureDoesNotMatch") {
        "the credentials are refused; check storage.s3.access_key_id and secret_key"
    } else if error.kind() == ErrorKind::PermissionDenied {
        "access is refused; check the credentials, or the directory's owner and mode"
    } else if error.kind() == ErrorKind::ConfigInvalid {
        "its configuration is not usable"
    } else {
        "it does not answer as it should; check that it is there and can be written"
    };
    OpenError::Unusable { place: place.to_owned(), hint, cause: Box::new(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens a store among these keys, and returns all keys afterwards.
    async fn opened_among(keys: &[&str]) -> Result<Vec<String>, OpenError> {
        let operator = Operator::new(opendal::services::Memory::default()).unwrap();
        for key in keys {
            operator.write(key, "x").await.unwrap();
        }
        let store = Store::over(operator.clone(), None, Metrics::new());
        store.check_format("here", true).await?;
        let listed = operator.list_with("").recursive(true).await.unwrap();
        Ok(listed.iter().filter(|entry| entry.metadata().is_file()).map(|entry| entry.path().to_owned()).collect())
    }

    #[tokio::test]
    async fn keys_of_others_stay_and_keys_of_the_layout_without_a_format_are_refused() {
        let mut others = ["a", "datasets/a", "other/a", "reposx", "zzz"].to_vec();
        let there = opened_among(&others).await.unwrap();
        others.push("format");
        others.sort_unstable();
        assert_eq!(there, others);
        for prefix in ROOTS {
            let found = format!("{prefix}x");
            let error = opened_among(&["a", &found]).await.unwrap_err().to_string();
            assert!(error.contains(&found) && error.contains("`format`"), "{error}");
        }
    }
}
