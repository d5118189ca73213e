//! Opening a store: what it lies on, whether it can be used, and whether its layout is one that this version knows.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::TryStreamExt as _;
use opendal::{
    ErrorKind, HttpTransporter, OperationContext, Operator,
    layers::{RetryLayer, TimeoutLayer},
    services::S3,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::{
    Clock, Inner, Store,
    answers::CheckedAnswers,
    dated::Dated,
    disk, layout,
    probe::{self, Lacks},
};
use crate::telemetry::Metrics;

/// The layout that this version writes and reads.
const LAYOUT: u32 = 1;
/// How long one storage operation may take; one that streams, each of its steps.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(20);

/// Where a store lies.
#[derive(Clone, Debug)]
pub enum Location {
    /// A directory.
    Directory {
        /// The directory; it is made where it is missing.
        root: PathBuf,
        /// Whether what is acknowledged is synced to the disk first.
        durable: bool,
        /// Bytes read at a time for a pull.
        chunk: usize,
    },
    /// A bucket of an S3 server.
    Bucket {
        /// Base URL of the server.
        endpoint: String,
        /// The bucket, which must exist.
        bucket: String,
        /// Its region.
        region: String,
        /// What all keys begin with.
        key_prefix: String,
        /// Credentials.
        access_key_id: String,
        /// Credentials.
        secret_key: SecretString,
        /// Least bytes of a part of a multipart upload.
        part_size: usize,
    },
}

/// Why a store cannot be used; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It does not answer, or refuses.
    #[error("the store at {place} cannot be used: {hint}: {cause}")]
    Unusable {
        /// The place of the store.
        place: String,
        /// The likely reason and the next step.
        hint: &'static str,
        /// The backend's words.
        cause: Box<opendal::Error>,
    },
    /// Its layout is another version's.
    #[error(
        "the store at {place} has layout {found}, and this version reads layout {LAYOUT}; use the version that wrote it"
    )]
    Layout {
        /// The place of the store.
        place: String,
        /// What its `format` object says.
        found: String,
    },
    /// Objects lie there under the layout's own keys, and the `format` object is missing.
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
    /// Nothing lies there, and nothing was to be made.
    #[error("there is no store at {place}; check the configuration, or start a server on it once to make one")]
    Absent {
        /// The place of the store.
        place: String,
    },
    /// The backend cannot write an object only where there is none.
    #[error(
        "the store at {place} overwrites an object that was to be written only if it is new (If-None-Match: *); \
         two uploads could tear each other there, so it is refused; use an S3 server that honours conditional writes"
    )]
    NotExclusive {
        /// The place of the store.
        place: String,
    },
    /// The backend lists keys in another order, or not all of them.
    #[error(
        "the store at {place} does not list all keys in the order of their bytes; what it lists would be taken for all \
         there is, so it is refused; use an S3 server that lists as Amazon S3 does"
    )]
    Unordered {
        /// The place of the store.
        place: String,
    },
    /// The backend does not read parts of objects.
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
    /// How messages name it; never with credentials.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Directory { root, .. } => format!("directory {}", root.display()),
            Self::Bucket { endpoint, bucket, key_prefix, .. } => {
                format!("bucket {bucket} of {endpoint} under {:?}", format!("/{}", key_prefix.trim_matches('/')))
            }
        }
    }

    fn operator(&self, clock: &Clock) -> opendal::Result<(Operator, Option<disk::Sweeper>)> {
        match self {
            Self::Directory { root, durable, chunk } => {
                let unsynced = &[layout::UPLOADS];
                let options = disk::DiskOptions { durable: *durable, unsynced, chunk: *chunk };
                disk::operator_with_sweeper(root, options).map(|(operator, sweeper)| (operator, Some(sweeper)))
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
                    // what is configured is what is used: nothing from the environment or the machine's metadata
                    .disable_config_load()
                    .disable_ec2_metadata();
                opendal::install_default();
                let answers = HttpTransporter::new(CheckedAnswers(HttpTransporter::default()));
                let answers = HttpTransporter::new(Dated { transport: answers, clock: clock.clone() });
                let context = OperationContext::new().with_http_transport(answers);
                Operator::new(builder).map(|operator| (operator.with_context(context), None))
            }
        }
    }
}

impl Store {
    /// Opens the store at `location`, makes it one of this layout where it is empty, and checks that it can be written.
    ///
    /// The work does not depend on how much is stored.
    pub async fn open(location: &Location, metrics: Metrics) -> Result<Self, OpenError> {
        Self::open_or(location, metrics, true).await
    }

    /// As [`Store::open`], but nothing is made: a place without a store is an error.
    pub async fn open_existing(location: &Location, metrics: Metrics) -> Result<Self, OpenError> {
        match location {
            Location::Directory { root, .. } if matches!(root.try_exists(), Ok(false)) => {
                Err(OpenError::Absent { place: location.place() })
            }
            _ => Self::open_or(location, metrics, false).await,
        }
    }

    async fn open_or(location: &Location, metrics: Metrics, make: bool) -> Result<Self, OpenError> {
        let place = location.place();
        let clock = Clock::default();
        let (operator, sweeper) = location.operator(&clock).map_err(|error| unusable(&place, error))?;
        let part_size = match location {
            Location::Directory { .. } => None,
            Location::Bucket { part_size, .. } => Some(*part_size),
        };
        let store = Self::with_sweeper(operator, clock, part_size, sweeper, metrics);
        store.check_format(&place, make).await?;
        Ok(store)
    }

    /// A store over any operator, unchecked; `part_size` as in [`Location::Bucket`]. For tests and for [`Store::open`].
    #[must_use]
    pub fn over(operator: Operator, part_size: Option<usize>, metrics: Metrics) -> Self {
        Self::with_sweeper(operator, Clock::default(), part_size, None, metrics)
    }

    fn with_sweeper(
        operator: Operator,
        clock: Clock,
        part_size: Option<usize>,
        sweeper: Option<disk::Sweeper>,
        metrics: Metrics,
    ) -> Self {
        let retry = RetryLayer::new()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(2))
            .with_max_times(3)
            .with_jitter();
        let timeout = TimeoutLayer::new().with_timeout(OPERATION_TIMEOUT).with_io_timeout(OPERATION_TIMEOUT);
        let ordered_listings = part_size.is_some();
        let operator = operator.layer(timeout).layer(retry);
        let ahead = Arc::new(tokio::sync::Semaphore::new(super::write::AHEAD));
        Self { inner: Arc::new(Inner { operator, clock, metrics, ordered_listings, part_size, sweeper, ahead }) }
    }

    /// Whether the store answers just now.
    pub async fn ready(&self) -> super::Result<()> {
        match self.get(layout::FORMAT).await? {
            Some(_) => Ok(()),
            None => Err(super::StorageError::damaged("get", layout::FORMAT, "the store is not there any more")),
        }
    }

    /// Returns a key of the layout, if there is any. Lists no other keys.
    async fn first_of_layout(&self) -> opendal::Result<Option<String>> {
        for prefix in layout::PREFIXES {
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
        let found = match operator.read(layout::FORMAT).await {
            Ok(found) => found.to_vec(),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // a missing bucket says "not found" as well, and then this listing is what fails
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
            let found = String::from_utf8_lossy(&found[..found.len().min(60)]).trim().to_owned();
            return Err(OpenError::Layout { place: place.to_owned(), found });
        }
        // twice, with the same content: the second must be refused, whether or not the first was
        let mut written = 0;
        for _ in 0..2 {
            match operator.write_with(layout::FORMAT, found.clone()).if_not_exists(true).await {
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

fn unusable(place: &str, error: opendal::Error) -> OpenError {
    let text = error.to_string();
    let hint = if text.contains("NoSuchBucket") {
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
        for prefix in layout::PREFIXES {
            let found = format!("{prefix}x");
            let error = opened_among(&["a", &found]).await.unwrap_err().to_string();
            assert!(error.contains(&found) && error.contains("`format`"), "{error}");
        }
    }
}
