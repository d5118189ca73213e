//! Reads blobs back.

use super::{
    super::{
        Outcome, Pass, Result,
        bytes::{Copy, State, holders, look, look_all, note_corrupt},
        notes::found,
    },
    Content,
};
use crate::{
    oci::{Algorithm, Digest},
    records::key::{Key, Prefix, Suffix},
    storage::Entry,
};

impl Content<'_> {
    /// Reads back and hashes the bytes that a blob copy names.
    pub(super) async fn blob(&self, entry: Entry) -> Result<()> {
        let run = self.run;
        let Some((digest, id)) = Key::copy(&entry.key) else { return Ok(()) };
        if !self.covers(&digest).await? {
            return Ok(());
        }
        if !is_sampled(run.id, &digest, run.options.verify_percent) {
            run.not_read();
            return Ok(());
        }
        let Some(copy) = look(run, self.ages, entry).await? else { return Ok(()) };
        let notes = copy.notes();
        match copy.hashes_to(run, &digest).await? {
            Some(true) => {
                self.verified(copy.size());
                if !notes.is_empty() {
                    let says =
                        format!("blob {digest} had a corruption note, and its bytes are right; the note is removed");
                    found(run, &Prefix::Data(&id).to_string(), &says, Outcome::Repaired)?;
                }
                for note in notes {
                    run.free(note, 0).await?;
                }
                Ok(())
            }
            Some(false) => {
                self.verified(copy.size());
                self.corrupt(&digest, &copy).await
            }
            None => match &copy.state {
                State::Broken(what) if !self.links_told() => {
                    // scrub frees a blob copy before its bytes, so a blob copy that still exists names lost bytes
                    let again = look(run, self.ages, copy.entry.clone()).await?;
                    if again.is_none_or(|again| again.state != copy.state) {
                        return Ok(());
                    }
                    let says = format!("blob {digest}{}: {what}; push it again", self.of(&digest).await?);
                    self.notes.wrong(run, &copy.entry.key, &says).await?;
                    run.report_damage(&digest).await
                }
                State::Broken(_) => Ok(()),
                _ => {
                    run.not_read();
                    Ok(())
                }
            },
        }
    }

    /// Writes a corruption note for a copy, so that no server reads its bytes any more, and reports whether another
    /// copy is good.
    async fn corrupt(&self, digest: &Digest, copy: &Copy) -> Result<()> {
        let (run, key) = (self.run, Prefix::Data(&copy.id).to_string());
        let known = copy.state == State::Corrupt;
        let mut another = false;
        for other in look_all(run, self.ages, digest).await?.iter().filter(|other| other.id != copy.id) {
            another |= other.state == State::Sound && other.hashes_to(run, digest).await? == Some(true);
        }
        if known && another {
            // garbage, since servers read the other copy
            return Ok(());
        }
        let (says, outcome) = if another {
            let says = format!("a copy of the bytes of blob {digest} is corrupt; another one takes its place");
            (says, Outcome::Repaired)
        } else {
            let says = format!("the bytes of blob {digest}{} are corrupt; push it again", self.of(digest).await?);
            (says, if known { Outcome::Known } else { Outcome::Quarantined })
        };
        if known { found(run, &key, &says, outcome) } else { note_corrupt(run, digest, copy, &says, outcome).await }
    }

    /// Returns whether the pass `links` has reported missing bytes. In a run over some repositories alone, that pass
    /// does not look at bytes.
    fn links_told(&self) -> bool {
        self.run.options.passes.contains(&Pass::Links) && self.run.options.repository.is_none()
    }

    /// Returns the part of a message that names the repositories with a blob.
    async fn of(&self, digest: &Digest) -> Result<String> {
        let names: Vec<String> = holders(self.run, digest).await?.iter().map(ToString::to_string).collect();
        Ok(if names.is_empty() {
            ", which nobody has,".to_owned()
        } else {
            format!(", which {} has,", names.join(", "))
        })
    }

    /// Returns whether a repository that this run covers has the digest.
    async fn covers(&self, digest: &Digest) -> Result<bool> {
        let Some(prefix) = &self.run.options.repository else { return Ok(true) };
        for prefix in [Prefix::Links(digest, prefix), Prefix::LinksBelow(digest, prefix)] {
            if !self.run.store.list(&prefix.to_string(), None, 1).await?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Returns whether a digest is in the sample of `percent` of a hundred that this run reads. Each run has another
/// sample.
fn is_sampled(run: Suffix, digest: &Digest, percent: u8) -> bool {
    if percent >= 100 {
        return true;
    }
    let number = Digest::of(Algorithm::Sha256, format!("{run}{digest}").as_bytes()).hex();
    u32::from_str_radix(&number[..8], 16).is_ok_and(|number| number % 100 < u32::from(percent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_of_its_size_and_another_one_each_run() {
        let digests: Vec<Digest> =
            (0..2000_u32).map(|number| Digest::of(Algorithm::Sha256, &number.to_be_bytes())).collect();
        let sample = |run, percent| digests.iter().map(|digest| is_sampled(run, digest, percent)).collect::<Vec<_>>();
        let number = |sample: &[bool]| sample.iter().filter(|taken| **taken).count();
        assert_eq!(number(&sample(Suffix(1), 100)), 2000);
        assert!((120..280).contains(&number(&sample(Suffix(1), 10))));
        assert_eq!(sample(Suffix(1), 10), sample(Suffix(1), 10));
        assert_ne!(sample(Suffix(1), 10), sample(Suffix(2), 10));
    }
}
