//! A directory whose clock goes on while a server's clocks stand still, in the middle of a request that ends in reads.

use std::time::Duration;

use simple_registry::registry::{Clock, Error, Options, Registry, VerifyPulls};
use simple_registry::storage::Store;
use simple_registry::storage::disk::{self, DiskOptions};
use simple_registry::telemetry::Metrics;

use crate::faults::layer::{Fault, Plan};
use crate::faults::world::{ONE_OF_TWO, World, by, chunk, name, sha256};

const LEASE: Duration = Duration::from_millis(400);

/// Lets a `HEAD` or a mount wait for a lease before its `nth` operation. Returns the operations until then, and the number
/// of grants that it wrote.
async fn asks(nth: usize, mounts: bool) -> (Vec<String>, usize) {
    let world = World::new();
    let digest = sha256(b"layer");
    let other = "other".parse().unwrap();
    world.server(ONE_OF_TWO).uploads.put_blob(&name(), &digest, chunk(&b"layer"[..].into()), &by()).await.unwrap();
    let operator = disk::operator(world.directory.path(), DiskOptions { durable: false, ..DiskOptions::default() });
    let store = Store::over(operator.unwrap().layer(world.faults.clone()), None, Metrics::new());
    let options = Options {
        lease: LEASE,
        cache_ttl: Duration::ZERO,
        max_blob_size: 1 << 30,
        allow_missing_references: false,
        verify_pulls: VerifyPulls::None,
    };
    let server = Registry::new(store.clone().with_clock(Clock::by_hand()), options, Metrics::new());
    world.faults.arm(Plan { fault: Fault::Waits, nth, lasting: false });
    let mut begun = Vec::new();
    {
        let request = async {
            let done = if mounts {
                server.blobs.mount(&other, &digest, Some(&name()), |_| true, &by()).await.map(|found| found.is_some())
            } else {
                server.blobs.get_to_rely_on(&name(), &digest, &by()).await.map(|_| true)
            };
            // a machine that is busy may make the second attempt slow as well
            assert!(matches!(done, Ok(true) | Err(Error::TooSlow)), "{done:?}");
        };
        let waits = async {
            world.faults.stalled().await;
            tokio::time::sleep(LEASE).await;
            begun = world.faults.begun();
            world.faults.heal();
            std::future::pending::<()>().await;
        };
        tokio::select! { () = request => {}, () = waits => {} }
    }
    if begun.is_empty() {
        begun = world.faults.begun();
    }
    let grants = store.list_all("blobs/").await.unwrap().into_iter().filter(|entry| entry.key.contains("/link."));
    (begun, grants.count() - 1)
}

#[tokio::test]
async fn an_answer_that_relies_on_an_old_grant_is_given_after_another_look() {
    for mounts in [false, true] {
        let (operations, grants) = asks(usize::MAX, mounts).await;
        assert_eq!(grants, 1, "in time");
        let last = operations.iter().rposition(|what| what.starts_with("list data/")).unwrap();
        assert_eq!(asks(last, mounts).await.1, 2, "mounts: {mounts}");
    }
}
