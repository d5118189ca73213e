//! Frees claims on versions of tags and manifests.
//!
//! Scrub frees a claim that is older than a lease once a version above it is older than a lease, too. By then no writer
//! is at work that saw less. A claim above the newest version stays, since its writer may still write. If the tag is to
//! be forgotten, scrub writes a newer tombstone above all claims, so that such a claim does not stay forever. Only
//! pushes of an immutable tag finish the claim of another writer.

use super::{
    super::{Reason, Result, ages::Ages, run::Run},
    names::Groups,
};
use crate::{
    oci::Name,
    storage::{
        Entry, layout,
        layout::Ordinal,
        mutation::{Mutation, mutated},
    },
};

/// Frees claims on versions of tags.
pub(super) async fn of_tags(run: &Run<'_>, ages: Ages, name: &Name) -> Result<()> {
    let of = name.clone();
    let mut groups = Groups::new(&run.store, &layout::all_tag_claims(name), move |key| layout::claimed_tag(&of, key));
    while let Some((tag, claims)) = groups.next().await? {
        let newest = run.store.list(&layout::tag(name, &tag), None, 1).await?.into_iter().next();
        let version = newest.as_ref().and_then(|entry| layout::parse_tag_version(name, &entry.key));
        let seen = version.map(|(_, version)| version);
        let all_old = claims.iter().all(|claim| ages.is_old(claim));
        let ends = match (&newest, seen) {
            (Some(newest), Some(seen)) => {
                below(run, ages, &claims, newest, seen.ordinal).await?;
                let above = claims.last().and_then(|claim| layout::claim_after(&claim.key));
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
            run.registry.end_tag(name, &tag, seen, &|claim: &Entry| ages.is_old(claim), &run.by).await?;
        }
    }
    Ok(())
}

/// Frees claims on versions of manifests. Claims of a manifest without versions have no reader: at the first place, two
/// pushes of one manifest write the same, whichever comes first.
pub(super) async fn of_manifests(run: &Run<'_>, ages: Ages, name: &Name) -> Result<()> {
    let of = name.clone();
    let prefix = layout::all_manifest_claims(name);
    let mut groups = Groups::new(&run.store, &prefix, move |key| layout::claimed_manifest(&of, key));
    while let Some((digest, claims)) = groups.next().await? {
        let newest = run.store.list(&layout::manifest(name, &digest), None, 1).await?.into_iter().next();
        match newest.as_ref().and_then(|entry| Some((entry, layout::version(&entry.key)?))) {
            Some((newest, version)) => below(run, ages, &claims, newest, version.ordinal).await?,
            None if claims.iter().all(|claim| ages.is_old(claim)) => free(run, claims.iter()).await?,
            None => {}
        }
    }
    Ok(())
}

fn has_first(claims: &[Entry]) -> bool {
    claims.first().is_some_and(|claim| layout::claim_after(&claim.key) == Some(Ordinal(0)))
}

/// Frees the old claims below the newest version, if that version is old.
async fn below(run: &Run<'_>, ages: Ages, claims: &[Entry], newest: &Entry, ordinal: Ordinal) -> Result<()> {
    if !ages.is_old(newest) {
        return Ok(());
    }
    let is_below = |claim: &Entry| {
        mutated(Mutation::ClaimsFreedAtOnce) || layout::claim_after(&claim.key).is_some_and(|after| after < ordinal)
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
