//! `scrub --only PASS --repository PREFIX`: each pass looks at those repositories alone, or refuses.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use simple_registry::{registry::Actor, scrub::Pass};

use crate::scrub::world::{age, configuration, content, keys, name, push_blob, push_image, put, server, sha256, store};

/// Repositories that the prefix `team/app` covers, and others.
const INSIDE: [&str; 2] = ["team/app", "team/app/sub"];
const OUTSIDE: [&str; 3] = ["team", "team/application", "other"];

fn config(beside: &Path, root: &Path) -> String {
    let more = "trash = \"0s\"\n[repository.\"*\".retention_policy]\nrules = ['image.tag == \"keep\"']\n";
    configuration(beside, root, more).to_str().unwrap().to_owned()
}

fn layer(of: &str) -> String {
    format!("the layer of {of}").repeat(100)
}

/// Makes a store in which every pass finds something to do in every repository. All of it is old.
async fn store_to_scrub() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let server = server(root).await;
    for of in INSIDE.into_iter().chain(OUTSIDE) {
        let repository = name(of);
        push_image(&server, &repository, of, &["keep", "go"], None).await;
        let deleted = push_image(&server, &repository, &format!("gone from {of}"), &["gone"], None).await;
        server.manifests.delete(&repository, &deleted, &Actor::default()).await.unwrap();
        push_blob(&server, &repository, format!("of nobody in {of}").as_bytes()).await;
        put(&server, &repository, &format!(r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{{"of":"{of}"}}}}"#), &["keep-too"]).await;
        server
            .uploads
            .start(&repository, simple_registry::oci::Algorithm::Sha256, "", &Actor::default())
            .await
            .unwrap();
    }
    let strange = store(root).await;
    for key in ["catalog/what", "repos/what", "blobs/what"] {
        strange.put(key, Vec::new()).await.unwrap();
    }
    // a lost pin, and bytes that are not what they were
    for of in INSIDE.into_iter().chain(OUTSIDE) {
        let config = sha256(format!("{{\"config\":\"{of}\"}}")).hex();
        let pin = keys(root).into_iter().find(|key| key.contains(&config) && key.contains(&format!("in/{of}!/pin.")));
        fs::remove_file(root.join(pin.unwrap())).unwrap();
        let bytes = keys(root)
            .into_iter()
            .find(|key| key.starts_with("data/") && fs::read(root.join(key)).unwrap() == layer(of).as_bytes());
        let bytes = root.join(bytes.unwrap());
        let flipped = fs::read_to_string(&bytes).unwrap().replacen("the", "teh", 1);
        fs::write(bytes, flipped).unwrap();
    }
    age(root);
    directory
}

fn scrub(config: &str, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simple-registry"));
    let output = command.args(["-c", config, "scrub", "--report", "-"]).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// Returns the changes to objects of repositories that the prefix does not cover: changed, gone or new.
fn outside(before: &BTreeMap<String, Vec<u8>>, after: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let inside: Vec<String> = INSIDE
        .into_iter()
        .flat_map(|of| [layer(of).into_bytes(), layer(of).replacen("the", "teh", 1).into_bytes()])
        .flat_map(|bytes| {
            let holds = move |(key, _): &(&String, &Vec<u8>), content: &Vec<u8>| {
                (key.starts_with("data/") && *content == bytes).then(|| key.rsplit_once('/').unwrap().0.to_owned())
            };
            before.iter().filter_map(move |(key, content)| holds(&(key, content), content)).collect::<Vec<_>>()
        })
        .collect();
    let covered = |key: &str| {
        INSIDE.iter().any(|of| key.contains(&format!("{of}!")))
            || inside.iter().any(|of| key.starts_with(of))
            || key.starts_with("corrupt/")
            // a run wishes for a lease, whatever it covers
            || key.starts_with("leases/")
    };
    let all = before.keys().chain(after.keys());
    let mut changed: Vec<String> =
        all.filter(|key| before.get(*key) != after.get(*key) && !covered(key)).cloned().collect();
    changed.dedup();
    changed
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pass_looks_at_the_repositories_of_the_prefix_alone_or_refuses() {
    let sound = store_to_scrub().await;
    let beside = tempfile::tempdir().unwrap();
    for pass in Pass::ALL {
        let at = crate::scrub::world::copy(sound.path());
        let config = config(beside.path(), at.path());
        let before = content(at.path());
        let (code, out, err) = scrub(&config, &["--only", pass.as_str(), "--repository", "team/app"]);
        let after = content(at.path());
        let said = format!("{pass:?} {code}: {out}{err}");
        if pass == Pass::Uploads {
            assert_eq!((code, &*out, before == after), (2, "", true), "{said}");
            assert!(err.contains("--repository cannot be used with the pass `uploads`"), "{said}");
            continue;
        }
        assert_eq!(outside(&before, &after), Vec::<String>::new(), "{said}");
        assert_ne!(before, after, "{said}");
        let lines: Vec<&str> =
            out.lines().filter(|line| line.starts_with("wrong: ") || line.starts_with("removed")).collect();
        for of in INSIDE {
            let names = |line: &&&str| [":", " ", "@", ","].iter().any(|end| line.contains(&format!(" {of}{end}")));
            assert!(lines.iter().any(|line| names(&line)), "{of}: {said}");
        }
        for of in OUTSIDE {
            let names = |line: &&&str| [":", " ", "@", ","].iter().any(|end| line.contains(&format!(" {of}{end}")));
            assert_eq!(lines.iter().find(names), None, "{of}: {said}");
        }
        assert!(!out.contains("/what"), "{said}");
    }
    // without --only it does what it can, and of several passes the one is named that cannot
    let at = crate::scrub::world::copy(sound.path());
    let config = config(beside.path(), at.path());
    let before = content(at.path());
    let (code, out, err) = scrub(&config, &["--only", "garbage,uploads", "--repository", "team/app"]);
    assert!(code == 2 && err.contains("`uploads`") && content(at.path()) == before, "{code} {out}{err}");
    let (code, out, err) = scrub(&config, &["--repository", "team/app", "--verify-content"]);
    assert!(code == 3 && out.contains("wrong: ") && err.contains("scrub: garbage"), "{code} {out}{err}");
    let uploads = |all: &BTreeMap<String, Vec<u8>>| all.keys().filter(|key| key.starts_with("uploads/")).count();
    assert_eq!(uploads(&content(at.path())), uploads(&before));
}
