//! Buckets of servers that are not quite S3: refused at the start, and believed nothing that cannot be so.

use std::process::{Command, Output};

use simple_registry::memory::Memory;
use simple_registry::storage::{FORMAT, FaultKind, Location, Store};
use simple_registry::telemetry::Metrics;

use crate::support::client::Request;
use crate::support::content::{Image, sha256};
use crate::support::s3::{ACCESS_KEY, Fault, MIN_PART, Quirk, REGION, SECRET_KEY};
use crate::support::server::Server;

/// Runs a command on the configuration of `server` to its end.
fn run(server: &Server, arguments: &[&str]) -> Output {
    let config = server.configuration_file();
    Command::new(env!("CARGO_BIN_EXE_simple-registry")).arg("-c").arg(config).args(arguments).output().expect("run")
}

#[test]
fn a_bucket_that_breaks_the_rules_of_s3_is_refused_at_the_start() {
    let mut server = Server::start_on_own_s3("");
    let repo = server.repo("some");
    repo.push_image("v1", &Image::new(&[100]));
    let before = server.s3().objects(server.bucket());
    server.kill();
    for (quirk, word) in [
        (Quirk::Overwrites, "If-None-Match"),
        (Quirk::LooksThenCreates, "If-None-Match"),
        (Quirk::ListsBackwards, "order"),
        (Quirk::ListsOnePage, "order"),
        (Quirk::IgnoresRange, "Range"),
    ] {
        server.s3().quirk(Some(quirk));
        for command in [&["server"][..], &["scrub"]] {
            let output = run(&server, command);
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{quirk:?} {command:?}: {text}");
            assert!(text.contains(word) && text.contains(server.bucket()), "{quirk:?} {command:?}: {text}");
        }
        assert_eq!(server.s3().objects(server.bucket()), before, "{quirk:?}: what it was tried with is gone again");
    }
    server.s3().quirk(None);
    server.restart();
    repo_of(&server).get_manifest("v1").expect(200);
}

fn repo_of(server: &Server) -> crate::support::repo::Repo {
    server.repo("some")
}

#[test]
fn a_listing_out_of_order_or_cut_off_is_503_and_frees_nothing() {
    let mut server = Server::start_on_own_s3("cache_ttl = \"0s\"\n[scrub]\nupload_expiry = \"10s\"\ngrace = \"0s\"");
    let repo = server.repo("some");
    let digest = repo.push_image("v1", &Image::new(&[100, 200]));
    repo.push_image("v2", &Image::new(&[300]));
    for half in [true, false] {
        if half {
            server.s3().fail(|operation, _| (operation == "ListObjectsV2").then_some(Fault::Half));
        } else {
            server.s3().quirk(Some(Quirk::ListsBackwards));
        }
        // a listing of one tag has one key, which is in order
        let tags = repo.client.send(Request::get("/v2/some/tags/list"));
        assert_eq!(tags.status, 503, "half of it: {half}");
        let before = server.s3().objects(server.bucket());
        if half {
            let output = run(&server, &["scrub"]);
            assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        }
        assert_eq!(server.s3().objects(server.bucket()), before);
        server.s3().heal();
        server.s3().quirk(None);
    }
    server.restart();
    assert_eq!(repo_of(&server).pull_image("v1"), digest);
}

/// A bucket that is gone is 404, and so is the page of a proxy that finds no server behind it. It may be 200, too.
#[test]
fn an_answer_that_is_not_about_the_object_makes_it_neither_absent_nor_written() {
    let mut server = Server::start_on_own_s3("");
    let image = Image::new(&[100]);
    let digest = repo_of(&server).push_image("v1", &image);
    let location = Location::Bucket {
        endpoint: server.s3().endpoint().to_owned(),
        bucket: server.bucket().to_owned(),
        region: REGION.to_owned(),
        key_prefix: "registry".to_owned(),
        access_key_id: ACCESS_KEY.to_owned(),
        secret_key: SECRET_KEY.into(),
        part_size: MIN_PART,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let store = runtime.block_on(Store::open_existing(&location, &Memory::new(0), Metrics::new())).expect("open");
    let all = async |key: &str| {
        let (get, size) = (store.get(key).await, store.size(key).await);
        let (read, delete) = (store.read(key, 0..1).await, store.delete(key).await);
        [get.map(|it| it.is_some()), size.map(|it| it.is_some()), read.map(|_| true), delete.map(|()| true)]
    };
    let fails = |what: &str| {
        for key in [FORMAT, "nothing"] {
            for (at, outcome) in runtime.block_on(all(key)).into_iter().enumerate() {
                assert_eq!(outcome.map_err(|error| error.kind), Err(FaultKind::Unavailable), "{what}, {key}: {at}");
            }
        }
    };
    server.s3().without_buckets(|| fails("no bucket"));
    server.s3().fail(|_, _| Some(Fault::ProxyPage(404)));
    fails("a page of a proxy");
    server.s3().fail(|_, _| Some(Fault::ProxyPage(200)));
    let written = runtime.block_on(async { [store.put("a", "b").await, store.create_new("a", "b").await.map(drop)] });
    for outcome in written {
        assert_eq!(outcome.map_err(|error| error.kind), Err(FaultKind::Unavailable), "a page is no confirmation");
    }
    server.s3().heal();
    let [get, size, read, delete] = runtime.block_on(all("nothing"));
    assert_eq!((get.expect("get"), size.expect("size"), delete.expect("delete")), (false, false, true));
    assert_eq!(read.map_err(|error| error.kind), Err(FaultKind::Damaged), "a record promises the object of a read");
    // a server that remembers nothing
    server.restart();
    server.s3().fail(|operation, _| (operation == "GetObject").then_some(Fault::ProxyPage(404)));
    let repo = repo_of(&server);
    repo.get_manifest("v1").expect(503);
    repo.get_manifest(&digest).expect(503);
    repo.get_blob(&sha256(&image.blobs[0])).expect(503);
    let objects = server.s3().objects(server.bucket());
    assert!(objects.iter().all(|(key, _)| !key.contains("corrupt")), "no damage is noted: {objects:?}");
    server.s3().heal();
    assert_eq!(repo.pull_image("v1"), digest);
}
