//! Frees garbage of repositories: superseded versions, unneeded manifests, records without readers.
//!
//! Scrub cleans one repository after another. It holds the tags of a repository in memory; everything else passes by in
//! the order of its keys.
//!
//! | file | content |
//! | --- | --- |
//! | `look` | a repository with its tags: the state of a manifest, its needs, its removal and the removals that follow |
//! | `fate` | the decision about a manifest |
//! | `manifests` | the execution of that decision |
//! | `tags`, `history` | superseded versions of tags become history |
//! | `claims` | claims on versions of tags and manifests, below newer versions |
//! | `untagged` | images whose tag moved on less than a grace ago |
//! | `referrers` | referrers, and signatures whose image was removed |
//! | `first_seen` | times at which manifests of caches were first seen |
//! | `pulls` | records of pulls, merged |
//! | `catalog` | empty repositories |

mod catalog;
mod claims;
mod fate;
mod first_seen;
mod history;
mod look;
mod manifests;
mod pulls;
mod referrers;
mod tags;
mod untagged;

pub(super) use self::{
    fate::ReferenceState,
    look::{Ended, Repository, is_in_an_index},
    pulls::{Pulls, read as read_pulls},
    tags::{Live, LiveTag, live as live_tags},
};
use super::{Pass, Result, names::Names, run::Run};
use crate::oci::Name;

pub(super) async fn run(run: &Run<'_>) -> Result<()> {
    let (mut names, total) = (Names::default(), run.repositories().await?);
    let mut done = 0;
    while let Some(name) = names.next(&run.store).await? {
        run.go_on()?;
        if run.covers(&name) {
            run.saw("repositories", 1);
            clean(run, &name).await?;
            done += 1;
            run.progress(Pass::Garbage, done, total);
        }
    }
    Ok(())
}

async fn clean(run: &Run<'_>, name: &Name) -> Result<()> {
    let ages = run.ages().await?;
    // tags first: a push writes everything that scrub looks at afterwards before its tag
    let live = tags::clean(run, ages, name).await?;
    let mut repository = Repository::new(run, ages, name, live);
    manifests::clean(&mut repository).await?;
    referrers::clean(&mut repository).await?;
    first_seen::clean(&repository).await?;
    pulls::clean(&repository).await?;
    catalog::clean(&repository).await
}
