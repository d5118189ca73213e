//! The depth of the walk of each case, and the case that finds each mutation of the protocol.

use crate::storage::mutation::Mutation;

/// Cases that are walked whole, with 0 half leases, 1, and so on. The first number counts these walks in every run, the
/// second in a long run. A walk of this list that does not come to its end fails.
pub(super) const WHOLE: &[(&str, usize, usize)] = &[
    ("push, bytes left over, scrub", 1, 2),
    ("push beside scrub's look at uploads", 1, 2),
    ("a mark left by a dead scrub", 1, 2),
    ("manifest put on an old grant, one scrub", 1, 2),
    ("manifest put on an old grant, two scrubs", 0, 1),
    ("manifest put on an old grant, scrub, time", 1, 2),
    ("a tag for an untagged manifest", 1, 2),
    ("the same manifest again while scrub frees it", 1, 1),
    ("an index takes in an untagged child", 1, 1),
    ("a manifest deleted by digest and pushed", 1, 1),
    ("one manifest pushed twice, old versions and pins freed", 1, 2),
    ("second copies, two scrubs", 0, 1),
    ("a deleter and a pusher on one tag", 1, 1),
    ("a commit when its upload has gone silent", 2, 2),
    ("a commit when an upload whose bytes are in its states has gone silent", 2, 2),
    ("two pushers of one digest", 1, 2),
    ("a late commit beside one that relies on it", 1, 1),
    ("a child deleted beside an index", 0, 1),
    ("a blob deleted beside a server that holds it", 1, 1),
    ("a blob that comes very late, and one that relies on it", 1, 2),
    ("a mount", 2, 2),
    ("asked for, then pushed", 2, 2),
    ("a tag that moves, its old manifest deleted", 1, 1),
    ("a signature beside the end of its subject", 1, 1),
    ("a tag pushed after a push that was given up", 1, 2),
    ("a tag deleted after a push that was given up", 1, 2),
    ("a tag pushed after a delete that was given up", 1, 2),
    ("a manifest deleted after a push that was given up", 1, 2),
    ("a manifest pushed after a delete that was given up", 1, 2),
    ("a child deleted after an index that was given up", 1, 2),
    ("an immutable tag pushed after a push that was given up", 1, 2),
    ("a delete that passes over the push of an index", 1, 1),
    ("a push with a longer lease than scrub's", 2, 3),
    ("a push with a shorter lease than scrub's", 1, 2),
    ("a lease that becomes longer beside a scrub", 1, 2),
    ("a lease that becomes shorter beside a scrub", 1, 2),
    ("a blob asked for after its delete was given up", 0, 1),
    ("a blob pushed after its delete was given up", 0, 1),
    ("a tag pushed after its delete was given up", 0, 1),
    ("two blobs come to a cached manifest at once", 2, 2),
    ("a blob comes beside a delete of its cached manifest", 2, 2),
    ("a blob comes while its manifest is cached", 1, 2),
    ("a blob comes to a cached manifest, scrub", 1, 2),
];

/// Cases that are walked whole with odd clocks: with up to so many half leases in every run, and in a long one. The
/// clocks of any process may stand still while a half lease passes. The store's clock may step a lease forward instead.
pub(super) const ODD: &[(&str, usize, usize)] = &[
    ("push beside scrub's look at uploads", 0, 1),
    ("manifest put on an old grant, scrub, time", 0, 1),
    ("a commit when its upload has gone silent", 0, 1),
    ("a mount", 0, 1),
    ("asked for, then pushed", 0, 1),
];

/// Cases that are walked whole with one delete that a process gives up, and that lands at any later time: with 0 half
/// leases, 1, and so on. The numbers count these walks as in [`WHOLE`].
pub(super) const LATE_DELETES: &[(&str, usize, usize)] = &[
    ("push, bytes left over, scrub", 0, 1),
    ("a mark left by a dead scrub", 0, 1),
    ("manifest put on an old grant, one scrub", 0, 1),
    ("a tag for an untagged manifest", 0, 1),
    ("one manifest pushed twice, old versions and pins freed", 0, 1),
    ("a commit when its upload has gone silent", 0, 1),
    ("a commit when an upload whose bytes are in its states has gone silent", 0, 1),
    ("a mount", 1, 1),
    ("asked for, then pushed", 1, 1),
];

/// The case with the most states.
pub(super) const LARGEST: &str = "second copies, two scrubs";

/// The way to find a mutation.
pub(super) enum How {
    /// In a random order: by this seed, or by one of the first seeds after a change of the code.
    Seed(u64),
    /// In an order that was made for it.
    Plan(&'static str),
    /// In an order that was made for it, in a directory.
    InDirectory(&'static str),
    /// In a walk over all orders with this many half leases.
    Walk(usize),
}

use How::{InDirectory, Plan, Seed, Walk};

/// The mutations of the protocol that the model has, as far as the code has a place for each: a case that finds it, and
/// how.
pub(super) const WAYS: &[(Mutation, &str, How)] = &[
    (Mutation::BytesNotLookedAt, LATE, Seed(7)),
    (Mutation::LookBeforeReference, "manifest put on an old grant, two scrubs", Seed(1)),
    (Mutation::SharedPins, "a mark left by a dead scrub", Seed(2830)),
    (Mutation::NoNewVersion, "a tag for an untagged manifest", Seed(1)),
    (Mutation::SlowPushDoesNotLookAgain, "a tag that moves, its old manifest deleted", Seed(37)),
    (Mutation::SessionNotLookedFor, LATE, Seed(7)),
    (Mutation::SlowCommitDoesNotLook, SILENT, Seed(784)),
    (Mutation::ChildrenNotRenewed, "an index takes in an untagged child", Seed(14)),
    (Mutation::NoSecondLookByScrub, "manifest put on an old grant, scrub, time", Seed(1)),
    (Mutation::ClockAfterLook, SILENT, Seed(531)),
    (Mutation::NoLease, "an index takes in an untagged child", Seed(1)),
    (Mutation::NoMarks, LATE, Seed(105)),
    (Mutation::GoneFreedAtOnce, "a child deleted beside an index", Walk(0)),
    (Mutation::MarkGoesBeforeTheBytes, "manifest put on an old grant, one scrub", Walk(0)),
    (Mutation::SharedMarks, "manifest put on an old grant, two scrubs", Walk(0)),
    (Mutation::ClaimsNotLookedAt, "a tag pushed after a push that was given up", Walk(0)),
    (Mutation::ClaimsNotLookedAt, "a tag deleted after a push that was given up", Walk(0)),
    (Mutation::ClaimsNotLookedAt, "a manifest deleted after a push that was given up", Walk(0)),
    (Mutation::ClaimsNotLookedAt, "a child deleted after an index that was given up", Walk(0)),
    (Mutation::ClaimsNotLookedAt, "an immutable tag pushed after a push that was given up", Walk(0)),
    // scrub removes the manifest with the first of its tags, before it has the second
    (
        Mutation::RetentionOfWhatIsPushed,
        "retention beside a push of several tags",
        Plan("0 until put repos/r!/tags/u!; 1 until put repos/r!/manifests/; 0 ends; 1 ends"),
    ),
    (Mutation::EndOverAYoungClaim, "a tag for an untagged manifest", Seed(7)),
    (
        Mutation::ClaimsFreedAtOnce,
        "given up and pushed again beside scrub",
        Plan("0 until put repos/r!/tags/; 0 gives up; time; time; 1 ends; 0 ends; late lands"),
    ),
    (
        Mutation::DeleteOverAPushDoesNotLookAgain,
        "a delete that passes over the push of an index",
        Plan("1 until create repos/r!/manifest-claims/; 0 ends; 1 ends"),
    ),
    (
        Mutation::OrderNotClosed,
        "an immutable tag pushed while its tombstone is freed",
        Plan("0 until create repos/r!/tag-claims/; 2 ends; 1 ends; 0 ends"),
    ),
    (
        Mutation::ClaimAfterAnOldLook,
        "an immutable tag pushed while its tombstone is freed",
        Plan("0 until create repos/r!/tag-claims/; 1 ends; time; time; 2 ends; 0 ends"),
    ),
    // the commit looks while a mark exists; before it removes its blob copy, scrub takes the mark back and a push looks
    (
        Mutation::FailedCommitTakesBack,
        LATE,
        Plan(
            "0 until put data/; time; 1 until put pin.; 2 until put !; 0 until put copy.; 2 until delete !; \
             0 until put link.; 1 until list data/; 0 until delete copy.; 2 ends; 1 ends; 0 ends",
        ),
    ),
    // the next scrub lifts the mark under which a delete of the bytes is still on its way
    (
        Mutation::DeadMarksLifted,
        "a blob asked for after its delete was given up",
        Plan(
            "0 until put link.; 1 until delete copy.; 1 gives up; time; 0 until begins ask; time; 1 ends; 0 ends; \
             late lands",
        ),
    ),
    // scrub frees the bytes between two requests of an upload, by a clock that its server does not have
    (
        Mutation::StoresClockNotLookedAt,
        "push beside scrub's look at uploads",
        Plan("0 until begins finish; freeze 0; freeze 0; 1 ends; 0 ends"),
    ),
    // scrub frees the pins before the manifest comes
    (
        Mutation::StoresClockNotLookedAt,
        "manifest put on an old grant, scrub, time",
        Plan("0 until put manifests/; freeze 0; freeze 0; 1 ends; 0 ends"),
    ),
    (
        Mutation::StoresClockNotLookedAt,
        "manifest put on an old grant, scrub, time",
        Plan("0 until put manifests/; jump; 1 ends; 0 ends"),
    ),
    // scrub has read the time before a step back, so new pins look a lease old
    (
        Mutation::ClockSetBackUnseen,
        "manifest put on an old grant, scrub, time",
        Plan("jump; 1 until list data/; jump back; 0 until put manifests/; 1 ends; 0 ends"),
    ),
    (
        Mutation::ClockSetBackUnseen,
        "manifest put on an old grant, scrub, time",
        InDirectory("jump; 1 until list data/; jump back; 0 until put manifests/; 1 ends; 0 ends"),
    ),
    // the pins are old by scrub's lease, and their push is quick by its own
    (
        Mutation::AnothersWishNotLookedAt,
        "a push with a longer lease than scrub's",
        Plan("0 until put manifests/; time; time; 1 ends; 0 ends"),
    ),
    // a blob copy comes after the look at marks, and its bytes were marked since
    (
        Mutation::MarksBeforeFacts,
        "a blob that comes very late, and one that relies on it",
        Plan(
            "0 until put copy.; time; time; 1 until put pin.; 2 until put !; 1 until list copy.; 2 until delete data/; \
             0 ends; 1 until list catalog/; 2 ends; 1 ends",
        ),
    ),
    // one scrub saw both copies while they were needed; another frees the survivor once they are not
    (
        Mutation::SurvivorNotLookedAt,
        "second copies, a grant that ends, two scrubs",
        Plan(
            "1 until put !; time; 0 until put pin.; 2 until delete data/; 0 until list catalog/; 1 ends; 2 ends; 0 ends",
        ),
    ),
    // one scrub frees the blob link, since the older version links the layer; another frees that version
    (
        Mutation::LinksOfOlderVersionsNotKept,
        "two pushes of one manifest, one with its layer, two scrubs",
        Plan("0 until list catalog/; 1 ends; 0 ends; 2 until list referrers/; time; time; 2 ends; 3 ends"),
    ),
    // the layer comes after the pass `links`, and is older than a lease when the garbage pass looks
    (
        Mutation::ListedBlobsNotKept,
        "two pushes of one manifest, one with its layer",
        Plan("0 ends; 2 until list tags/; 1 until begins manifest; time; time; 2 ends; 1 ends"),
    ),
    // a scrub saw that the image is deleted, and the restore that the signature exists
    (
        Mutation::SubjectNotLookedFor,
        "an image restored with its signature",
        Plan("1 until put pending-delete.; 0 ends; 1 ends"),
    ),
    (
        Mutation::EndingReferrersNotRenewed,
        "an image restored with a signature by its tag",
        Plan("1 until put .not; 0 ends; 1 ends"),
    ),
];

const SILENT: &str = "a commit when its upload has gone silent";
const LATE: &str = "a late commit beside one that relies on it";
