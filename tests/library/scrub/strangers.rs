//! Tests foreign files beside a store: scrub leaves them alone, and they stop nothing.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::Path,
    process::Command,
};

use simple_registry::registry::Actor;

use crate::scrub::world::{self, age, configuration, name, push_image, server};

/// A user without rights, to whom a folder of root is closed.
const NOBODY: u32 = 65534;

/// Lets a user have a directory and all that is in it.
fn give(path: &Path, user: u32) {
    chown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), user);
        }
    }
}

/// Makes the files of a place that is no store yet: those of a volume, and those of somebody else.
fn strangers(root: &Path) {
    for folder in ["lost+found", "somebody-elses/empty", "blobs-of-old"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("somebody-elses/file"), "x").unwrap();
    fs::write(root.join("README"), "x").unwrap();
}

fn are_as_they_were(root: &Path) {
    for folder in ["lost+found", "somebody-elses/empty", "blobs-of-old"] {
        assert!(root.join(folder).is_dir(), "{folder} is gone");
    }
    for file in ["somebody-elses/file", "README"] {
        assert_eq!(fs::read_to_string(root.join(file)).unwrap(), "x");
    }
}

/// Lets all directories seem as old as all files.
fn age_directories(root: &Path) {
    let old = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            age_directories(&path);
            fs::File::open(&path).unwrap().set_times(old).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_made_beside_strangers_and_scrub_leaves_them_alone() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    strangers(root);
    let image = push_image(&server(root).await, &name("team/app"), "one", &["v1"], None).await;
    server(root).await.manifests.delete(&name("team/app"), &image, &Actor::default()).await.unwrap();
    fs::create_dir_all(root.join("data/00/empty")).unwrap();
    age(root);
    age_directories(root);
    let mut config = world::config();
    config.scrub.trash = std::time::Duration::ZERO;
    for _ in 0..4 {
        let (summary, told) = world::scrub_with(root, &config, |_| {}).await.unwrap();
        assert!(summary.is_clean(), "{:?}", told.findings());
        age(root);
        age_directories(root);
    }
    assert!(!root.join("data/00").exists(), "empty directories of the store go");
    assert!(!world::keys(root).iter().any(|key| key.starts_with("blobs/")), "what nothing needs goes");
    are_as_they_were(root);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_read_stops_neither_the_start_nor_a_scrub() {
    let (directory, beside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (root, closed) = (directory.path(), directory.path().join("lost+found"));
    fs::create_dir(&closed).unwrap();
    let mode = |mode| fs::set_permissions(&closed, Permissions::from_mode(mode)).unwrap();
    mode(0o000);
    push_image(&server(root).await, &name("team/app"), "one", &["v1"], None).await;
    let config = configuration(beside.path(), root, "");
    let mut command = Command::new(env!("CARGO_BIN_EXE_simple-registry"));
    command.arg("-c").arg(&config).arg("scrub").current_dir(beside.path());
    // to root no folder is closed
    if fs::metadata(root).unwrap().uid() == 0 {
        give(root, NOBODY);
        give(beside.path(), NOBODY);
        chown(&closed, Some(0), Some(0)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().unwrap();
    mode(0o700);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
