//! What is garbage in a repository: superseded versions, manifests that nothing needs, facts without readers.
//!
//! One repository after another. Of each, its tags are held; everything else goes by in the order of its keys.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `names` | the repositories, and objects of a listing that belong together |
//! | `look` | a repository with its tags: whether a manifest stands, what needs it, letting it go and what goes with it |
//! | `fate` | what becomes of a manifest, decided |
//! | `manifests` | what becomes of a manifest, done |
//! | `tags`, `history` | superseded versions of tags become history |
//! | `claims` | claims on places among the versions of tags and manifests, below newer versions |
//! | `untagged` | images whose tag moved on a short while ago |
//! | `referrers` | who refers to what; signatures whose image is gone |
//! | `pulls` | what servers saw of pulls, merged |
//! | `catalog` | empty repositories |

mod catalog;
mod claims;
mod fate;
mod history;
mod look;
mod manifests;
mod names;
mod pulls;
mod referrers;
mod tags;
mod untagged;

pub(super) use self::{
    fate::Upheld,
    look::{Ended, Repository},
    manifests::Group,
    names::{Names, count},
    pulls::{Pulls, read as read_pulls},
    tags::{Live, LiveTag, live as live_tags},
};
use super::{Pass, Result, ages::Ages, run::Run};
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
    let ages = Ages::now(run).await?;
    // first: what is looked at afterwards was written before its tag
    let live = tags::clean(run, ages, name).await?;
    let mut repository = Repository::new(run, ages, name, live);
    manifests::clean(&mut repository).await?;
    referrers::clean(&mut repository).await?;
    pulls::clean(&repository).await?;
    catalog::clean(&repository).await
}
