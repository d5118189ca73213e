//! Breaks the protocol between pushers and scrub in one way at a time, for the test that shows that the break is
//! noticed.
//!
//! In other builds nothing is broken: these functions are constants there.

/// A way to break the protocol: one of its steps is left out or done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// Scrub keeps to its own lease alone.
    AnothersWishNotLookedAt,
    /// The links pass pins a blob beside a delete of it.
    BlobDeletesNotLookedFor,
    /// A pusher relies on a blob copy without a look at its segments.
    BytesNotLookedAt,
    /// A push does not look for marks in the catalog.
    CatalogWithoutMarks,
    /// A cached index references only the children that are there.
    CachedChildrenNotReferenced,
    /// A blob is linked to cached manifests without a look whether the repository has it.
    CachedLinksWithoutLook,
    /// The push of an index writes no new version of its children.
    ChildrenNotRenewed,
    /// A slow attempt claims on the strength of what it saw long ago.
    ClaimAfterAnOldLook,
    /// Scrub frees claims however young the version above them is.
    ClaimsFreedAtOnce,
    /// A writer takes a place that another writer has claimed.
    ClaimsNotLookedAt,
    /// Scrub reads the time after it looked.
    #[cfg(test)]
    ClockAfterLook,
    /// Scrub goes on after the store's clock was set back.
    ClockSetBackUnseen,
    /// Scrub lifts the marks of scrubs that have ended, in place of a copy of the bytes.
    DeadMarksLifted,
    /// A delete of a manifest passes over a push without another look for indexes.
    DeleteOverAPushDoesNotLookAgain,
    /// Scrub ends a tag of which it saw no version.
    EndOfNoVersion,
    /// Scrub passes over the claim of a push under way.
    EndOverAYoungClaim,
    /// A restore leaves a referrer alone that a scrub is about to remove.
    EndingReferrersNotRenewed,
    /// A failed commit deletes its blob copy.
    FailedCommitTakesBack,
    /// Scrub frees tombstones before the trash time.
    GoneFreedAtOnce,
    /// Scrub frees the versions of a tag before it writes the history.
    HistoryWrittenLate,
    /// Scrub frees older versions of a manifest with the links that only they give.
    LinksOfOlderVersionsNotKept,
    /// The links pass judges young objects.
    LinksWithoutALease,
    /// Scrub frees blobs that only the list of a manifest names.
    ListedBlobsNotKept,
    /// A pusher looks for the bytes before it writes its reference.
    LookBeforeReference,
    /// Scrub removes its mark before the segments.
    MarkGoesBeforeTheBytes,
    /// A pusher looks for marks before it reads the blob copies.
    MarksBeforeFacts,
    /// Scrub frees young objects.
    NoLease,
    /// A pusher ignores marks.
    NoMarks,
    /// A manifest that is pushed again gets no new version.
    NoNewVersion,
    /// Scrub does not look again after its marks.
    NoSecondLookByScrub,
    /// Scrub frees the last tombstone of a tag without closing the order.
    OrderNotClosed,
    /// A pin alone links a repository to a blob.
    PinsGiveLinks,
    /// A look that finds no blob copy does not list again.
    PlacesNotListedAgain,
    /// The links pass links a repository to each blob that a manifest names.
    RepairLinksWhatIsNamed,
    /// Retention judges a manifest while its push is under way.
    RetentionOfWhatIsPushed,
    /// A final request does not look whether its session was freed.
    SessionNotLookedFor,
    /// All runs of scrub write their marks under one key.
    SharedMarks,
    /// All attempts write their pins under one key.
    SharedPins,
    /// A slow final request does not look for its segments again.
    SlowCommitDoesNotLook,
    /// A slow push of a manifest is not made again.
    SlowPushDoesNotLookAgain,
    /// Attempts are measured without the store's clock.
    StoresClockNotLookedAt,
    /// A restore does not look for the subject of a referrer again.
    SubjectNotLookedFor,
    /// Scrub keeps a blob copy without hashing it, and frees the others.
    SurvivorNotHashed,
    /// Scrub does not look again at the blob copy that it keeps.
    SurvivorNotLookedAt,
}

#[cfg(test)]
thread_local! {
    static BROKEN: std::cell::Cell<Option<Mutation>> = const { std::cell::Cell::new(None) };
}

/// Returns whether the protocol is broken in this way on this thread.
#[cfg(test)]
pub(crate) fn mutated(way: Mutation) -> bool {
    BROKEN.get() == Some(way)
}

/// Returns false, since only tests break the protocol.
#[cfg(not(test))]
pub(crate) const fn mutated(_: Mutation) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    /// The current time in milliseconds since 1970, for a scrub that reads the clock too late.
    pub(crate) static TIME: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Returns the time that scrub read before its look. Under the mutation `ClockAfterLook`, returns the current time if
/// it is later.
#[cfg(test)]
pub(crate) fn read_before(time: u64) -> u64 {
    if mutated(Mutation::ClockAfterLook) { time.max(TIME.get()) } else { time }
}

/// Returns the time that scrub read before its look.
#[cfg(not(test))]
pub(crate) const fn read_before(time: u64) -> u64 {
    time
}

/// Runs `work` while the protocol is broken in this way, or intact for `None`.
#[cfg(test)]
pub(crate) fn with<T>(way: Option<Mutation>, work: impl FnOnce() -> T) -> T {
    let before = BROKEN.replace(way);
    let result = work();
    BROKEN.set(before);
    result
}

#[cfg(test)]
thread_local! {
    /// True if processes write wishes for a lease and look at those of others. Many interleavings have equal leases and
    /// are large without wishes, so they turn wishes off.
    pub(crate) static WISHES: std::cell::Cell<bool> = const { std::cell::Cell::new(true) };
}

/// Returns whether processes write wishes for a lease.
#[cfg(test)]
pub(crate) fn wishes() -> bool {
    WISHES.get()
}

/// Returns true: outside tests, processes write wishes.
#[cfg(not(test))]
pub(crate) const fn wishes() -> bool {
    true
}
