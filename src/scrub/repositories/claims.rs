//! Frees claims on versions of tags and manifests, and turns of downloads.
//!
//! Scrub frees a claim that is older than a lease once a version above it is older than a lease, too. By then no writer
//! is at work that saw less. A claim above the newest version stays, since its writer may still write. If the tag is to
//! be forgotten, scrub writes a newer tombstone above all claims, so that such a claim does not stay forever. Only
//! pushes of an immutable tag finish the claim of another writer.

use futures::TryStreamExt as _;

use super::super::{Reason, Result, ages::AgeThresholds, names, run::Run};
use crate::{
    oci::Name,
    records::{
        key::{Ordinal, Prefix, RepositoryKey},
        newest_version,
    },
    storage::{
        Entry,
        mutation::{Mutation, mutated},
    },
};

/// Frees claims on versions of tags.
pub(super) async fn of_tags(run: &Run<'_>, ages: AgeThresholds, name: &Name) -> Result<()> {
    let mut groups = names::groups(&run.store, name, Prefix::AllTagClaims(name), |key| match key {
        RepositoryKey::TagClaim(tag, _) => Some(tag),
        _ => None,
    });
    while let Some((tag, claims)) = groups.next().await? {
        let newest = run.store.list(&Prefix::Tag(name, &tag).to_string(), None, 1).await?.into_iter().next();
        let version = newest.as_ref().and_then(|entry| RepositoryKey::tag_version(name, &entry.key));
        let seen = version.map(|(_, version)| version);
        let all_old = claims.iter().all(|claim| ages.is_old(claim));
        let ends = match (&newest, seen) {
            (Some(newest), Some(seen)) => {
                below(run, ages, &claims, newest, seen.ordinal).await?;
                let above = claims.last().and_then(|claim| Ordinal::of_claim(&claim.key));
                seen.target.is_none() && ages.is_past_trash(newest) && above >= Some(seen.ordinal)
            }
            // a push at work may have seen the first place taken
            _ if has_first(&claims) => true,
            // claims of closed orders, and claims that were created after the last tombstone was freed
            _ => {
                free(run, claims.iter().filter(|claim| ages.is_old(claim))).await?;
                false
            }
        };
        if ends && all_old && !run.options.dry_run {
            run.registry.tags.end(name, &tag, seen, &|claim: &Entry| ages.is_old(claim), &run.by).await?;
        }
    }
    Ok(())
}

/// Frees claims on versions of manifests. Claims of a manifest without versions have no reader: at the first place, two
/// pushes of one manifest write the same, whichever comes first.
pub(super) async fn of_manifests(run: &Run<'_>, ages: AgeThresholds, name: &Name) -> Result<()> {
    let mut groups = names::groups(&run.store, name, Prefix::AllManifestClaims(name), |key| match key {
        RepositoryKey::ManifestClaim(digest, _) => Some(digest),
        _ => None,
    });
    while let Some((digest, claims)) = groups.next().await? {
        match newest_version(&run.store, name, &digest).await? {
            Some((newest, version)) => below(run, ages, &claims, &newest, version.ordinal).await?,
            None if claims.iter().all(|claim| ages.is_old(claim)) => free(run, claims.iter()).await?,
            None => {}
        }
    }
    Ok(())
}

/// Frees turns of downloads. A server that goes on takes a new turn after a quarter of a lease.
pub(super) async fn of_downloads(run: &Run<'_>, ages: AgeThresholds, name: &Name) -> Result<()> {
    let mut listing = std::pin::pin!(run.store.scan(&Prefix::AllDownloads(name).to_string()));
    while let Some(turn) = listing.try_next().await? {
        if RepositoryKey::under(name, &turn.key).is_some() {
            free(run, std::iter::once(&turn).filter(|turn| ages.is_old(turn))).await?;
        }
    }
    Ok(())
}

fn has_first(claims: &[Entry]) -> bool {
    claims.first().is_some_and(|claim| Ordinal::of_claim(&claim.key) == Some(Ordinal(0)))
}

/// Frees the old claims below the newest version, if that version is old.
async fn below(run: &Run<'_>, ages: AgeThresholds, claims: &[Entry], newest: &Entry, ordinal: Ordinal) -> Result<()> {
    if !ages.is_old(newest) {
        return Ok(());
    }
    let is_below = |claim: &Entry| {
        mutated(Mutation::ClaimsFreedAtOnce) || Ordinal::of_claim(&claim.key).is_some_and(|after| after < ordinal)
    };
    free(run, claims.iter().filter(|claim| ages.is_old(claim) && is_below(claim))).await
}

async fn free(run: &Run<'_>, claims: impl Iterator<Item = &Entry>) -> Result<()> {
    for claim in claims {
        run.housekeeping(Reason::Superseded);
        run.free(&claim.key, claim.size).await?;
    }
    Ok(())
}
