//! A closer look at a digest with several copies, with copies that do not match their records, or without any need.

use std::collections::HashSet;

use super::{
    super::{Outcome, Pass, Reason, Result, notes::found},
    Context, State,
    copies::{Copy, look_all, note_corrupt},
    facts::{Need, Suspect, holders, is_linked},
};
use crate::{
    oci::Digest,
    records::key::Prefix,
    storage::mutation::{Mutation, mutated},
};

pub(super) async fn attend(context: &Context<'_>, suspect: Suspect) -> Result<()> {
    context.run.go_on()?;
    if suspect.need == Need::None {
        return if context.does(Pass::Garbage) { context.free_unneeded(&suspect).await } else { Ok(()) };
    }
    let copies = look_all(context.run, context.ages, &suspect.digest).await?;
    for copy in &copies {
        context.free_left_over(copy).await?;
    }
    if context.does(Pass::Garbage) || context.does(Pass::Links) {
        let superfluous = copies.iter().any(|copy| context.may_go(copy));
        let (survivor, corrupt) = if copies.len() > 1 && superfluous {
            context.survivor(&suspect.digest, &copies).await?
        } else {
            (copies.iter().find(|copy| copy.state == State::Sound), Vec::new())
        };
        match survivor {
            Some(survivor) => context.keep_one(&suspect.digest, &copies, survivor, &corrupt).await?,
            None => context.none_sound(&suspect, &copies, &corrupt).await?,
        }
    }
    Ok(())
}

impl Context<'_> {
    /// Frees the keys that failed attempts left beside the bytes of a sound copy. Leaves a broken copy as it is.
    async fn free_left_over(&self, copy: &Copy) -> Result<()> {
        let frees = self.does(Pass::Garbage) || self.does(Pass::Uploads);
        // another digest's blob copy may name them
        if !frees || copy.state != State::Sound || self.table.is_shared(&copy.id) {
            return Ok(());
        }
        for entry in copy.left_over(self.ages) {
            self.run.housekeeping(Reason::Unreferenced);
            self.run.free(&entry.key, entry.size).await?;
        }
        Ok(())
    }

    /// Returns whether scrub may free a copy if another one stays: an old copy that no other scrub is freeing.
    fn may_go(&self, copy: &Copy) -> bool {
        let wanted = match copy.state {
            State::Sound | State::Corrupt | State::Marked { dead: true } => self.does(Pass::Garbage),
            State::Broken(_) => true,
            State::Marked { dead: false } => false,
        };
        wanted && self.ages.is_old(&copy.entry) && !self.table.is_shared(&copy.id)
    }

    /// Returns the copy that stays: the one with the smallest id that is sound and hashes to the digest. Also returns
    /// the sound copies before it that do not, which have no corruption notes yet.
    async fn survivor<'c>(&self, digest: &Digest, copies: &'c [Copy]) -> Result<(Option<&'c Copy>, Vec<&'c Copy>)> {
        let mut corrupt = Vec::new();
        for copy in copies.iter().filter(|copy| copy.state == State::Sound) {
            let is_right = mutated(Mutation::SurvivorNotHashed).then_some(true);
            match is_right.or(copy.hashes_to(self.run, digest).await?) {
                Some(true) => return Ok((Some(copy), corrupt)),
                Some(false) => corrupt.push(copy),
                // freed meanwhile: a later run sees what is left
                None => {}
            }
        }
        Ok((None, corrupt))
    }

    async fn keep_one(&self, digest: &Digest, copies: &[Copy], survivor: &Copy, corrupt: &[&Copy]) -> Result<()> {
        for copy in corrupt {
            let says = format!("a copy of the bytes of blob {digest} is corrupt; another one takes its place");
            note_corrupt(self.run, digest, copy, &says, Outcome::Repaired).await?;
        }
        let is = |copy: &Copy, other: &Copy| copy.entry.key == other.entry.key;
        for copy in copies.iter().filter(|copy| !is(copy, survivor) && !corrupt.iter().any(|it| is(it, copy))) {
            if !self.may_go(copy) {
                // reported whatever its age; only freeing waits for a lease
                if let State::Broken(says) = &copy.state {
                    let says = format!("a copy of the bytes of {digest} is not whole: {says}; another one is read");
                    found(self.run, &copy.entry.key, &says, Outcome::Repaired)?;
                }
                continue;
            }
            if let State::Broken(says) = &copy.state {
                let says = format!("a copy of the bytes of {digest} is not whole: {says}; another one takes its place");
                found(self.run, &copy.entry.key, &says, Outcome::Repaired)?;
            }
            self.free_copy(digest, copy, survivor).await?;
        }
        Ok(())
    }

    /// Returns the message about a fault of a blob. It names repositories that have the blob, whose users can push it
    /// again.
    async fn says(&self, digest: &Digest, what: &str) -> Result<String> {
        let names: Vec<String> = holders(self.run, digest).await?.iter().map(ToString::to_string).collect();
        let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
        Ok(format!("blob {digest}, which {names} has: {what}; push it again"))
    }

    /// Returns the unchanged copies, if no copy is sound by now. Another scrub may free a blob copy and its bytes
    /// between the looks at the two, and a push may bring a copy.
    async fn still<'c>(&self, digest: &Digest, copies: &'c [Copy]) -> Result<Vec<&'c Copy>> {
        let again = look_all(self.run, self.ages, digest).await?;
        if again.iter().any(|copy| copy.state == State::Sound) && copies.iter().all(|copy| copy.state != State::Sound) {
            return Ok(Vec::new());
        }
        let is = |copy: &&Copy| again.iter().any(|now| now.entry.key == copy.entry.key && now.state == copy.state);
        Ok(copies.iter().filter(is).collect())
    }

    /// Returns whether a manifest needs the digest, and not only names it.
    async fn is_needed(&self, suspect: &Suspect) -> Result<bool> {
        Ok(suspect.need == Need::Manifest && is_linked(self.run, &suspect.digest).await?)
    }

    /// Handles a needed digest without a sound copy: copies bytes under dead marks, writes a broken blob copy again
    /// from its bytes, or notes the fault.
    async fn none_sound(&self, suspect: &Suspect, copies: &[Copy], corrupt: &[&Copy]) -> Result<()> {
        let digest = &suspect.digest;
        for copy in corrupt {
            let says = self.says(digest, "its bytes are corrupt").await?;
            note_corrupt(self.run, digest, copy, &says, Outcome::Quarantined).await?;
        }
        if copies.iter().any(|copy| copy.state == State::Marked { dead: false }) {
            // another scrub is freeing it
            return Ok(());
        }
        if let Some(marked) = copies.iter().find(|copy| copy.state == State::Marked { dead: true }) {
            // the mark stays: the scrub that wrote it may have begun a delete that has not happened yet
            if mutated(Mutation::DeadMarksLifted) {
                for mark in marked.seen.marks() {
                    self.run.free(&mark.key, 0).await?;
                }
                return Ok(());
            }
            let mended = self.run.options.dry_run || self.run.registry.copies.mend(digest, &self.run.by).await?;
            if mended {
                let says = format!("a scrub that did not end has left its mark on blob {digest}: it has a copy now");
                return found(self.run, &marked.entry.key, &says, Outcome::Repaired);
            }
        }
        for copy in copies.iter().filter(|copy| self.ages.is_old(&copy.entry)) {
            let broken = matches!(copy.state, State::Broken(_));
            if broken && self.adopt(&copy.id, &HashSet::from([*digest])).await?.is_some() {
                return Ok(());
            }
        }
        for copy in self.still(digest, copies).await? {
            match &copy.state {
                State::Corrupt if self.does(Pass::Links) => {
                    let says = self.says(digest, "its bytes are corrupt").await?;
                    found(self.run, &Prefix::Data(&copy.id).to_string(), &says, Outcome::Known)?;
                }
                // an upload that was given up while it completed: its client got an error, and pushes it again
                State::Broken(_) if copy.stored() == 0 && !self.is_needed(suspect).await? => {}
                State::Broken(what) => {
                    self.notes.wrong(self.run, &copy.entry.key, &self.says(digest, what).await?).await?;
                    self.run.report_damage(digest).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}
