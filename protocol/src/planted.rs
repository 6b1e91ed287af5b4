//! Errors planted on purpose: what the checkers must find.
//!
//! A checker that finds nothing proves little unless it is known what it would have found. So the
//! real code holds plausible errors, one of which at a time can be switched on, and
//! `tests/planted.rs` holds that the simulator or the model checker finds each. They are there only
//! with the feature `planted`, which is for that test alone: without it [`is_planted`] is a constant, and
//! nothing of them is left in a build.
//!
//! # Deviations
//! - Cores know no globals, but for this one.

use std::{fmt, str::FromStr};

macro_rules! bugs {
    ($($(#[doc = $about:literal])+ $bug:ident = $name:literal,)+) => {
        /// A planted error.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bug {
            $($(#[doc = $about])+ $bug,)+
        }

        impl Bug {
            /// Every one of them.
            pub const ALL: &[Bug] = &[$(Bug::$bug),+];

            /// Its name, as it is written on a command line.
            pub fn name(self) -> &'static str {
                match self {
                    $(Bug::$bug => $name,)+
                }
            }

            /// What is wrong, in one line.
            pub fn about(self) -> &'static str {
                match self {
                    $(Bug::$bug => concat!($($about),+).trim_ascii(),)+
                }
            }
        }
    };
}

bugs! {
    // The acceptor.

    /// The acceptor votes below its promise.
    AcceptBelowPromise = "accept-below-promise",
    /// The acceptor promises a ballot below its promise.
    PromiseBelowPromise = "promise-below-promise",
    /// The acceptor says that it has promised, and does not remember it.
    PromiseNotRecorded = "promise-not-recorded",
    /// The acceptor that starts anew does not know below which slot it has forgotten its votes.
    ForgottenLostWithSegment = "forgotten-lost-with-segment",
    /// The acceptor takes a slot with a vote in a lower ballot for one that it has voted for.
    LowerVoteKept = "lower-vote-kept",
    /// The acceptor shows its votes from the slot on that follows the one asked for.
    FirstVoteNotShown = "first-vote-not-shown",
    /// The acceptor confirms a ballot though it has promised a higher one.
    ConfirmsTheDeposed = "confirms-the-deposed",
    /// The acceptor takes the round that it votes in for one that is chosen.
    OwnRoundTakenForChosen = "own-round-taken-for-chosen",

    // The proposer.

    /// The proposer campaigns again with a ballot that was its own before.
    BallotReused = "ballot-reused",
    /// The proposer takes the first vote that it is shown for a slot, not the highest.
    HighestVoteIgnored = "highest-vote-ignored",
    /// The proposer counts promises for a former ballot of its own.
    FormerPromiseCounted = "former-promise-counted",
    /// The proposer counts votes in a former ballot of its own.
    FormerVoteCounted = "former-vote-counted",
    /// The proposer counts a vote twice that arrives twice.
    VoteCountedTwice = "vote-counted-twice",
    /// The proposer takes one less than a majority for enough.
    PaxosQuorumTooSmall = "paxos-quorum-too-small",
    /// The proposer takes everything below a round that is chosen for chosen.
    ProgressPastAGap = "progress-past-a-gap",
    /// The proposer answers a read when one acceptor has confirmed its ballot.
    ReadUnconfirmed = "read-unconfirmed",
    /// The proposer answers a read with what it knows to be chosen, whatever phase 1 has shown.
    ReadBelowRecovered = "read-below-recovered",
    /// The proposer fills holes with no-ops where acceptors have forgotten what was chosen.
    NoOpWhereForgotten = "no-op-where-forgotten",

    // The learner.

    /// The learner takes a vote in the round after the last chosen one for chosen.
    VoteTakenForChosen = "vote-taken-for-chosen",
    /// The learner applies what a former proposer says of its rounds to those of the present one.
    ProgressOfAnyBallot = "progress-of-any-ballot",
    /// The learner keeps votes of a former ballot when a new one begins.
    FormerVotesKept = "former-votes-kept",

    // Raft.

    /// The peer votes twice in one term.
    TwoVotesInATerm = "two-votes-in-a-term",
    /// The peer votes for a candidate whose log is not as good as its own.
    LogsNotCompared = "logs-not-compared",
    /// The peer does not remember a vote in a term that it knew before.
    VoteNotRecorded = "vote-not-recorded",
    /// The peer reads its term from the records, and not from what a segment begins with.
    TermLostWithSegment = "term-lost-with-segment",
    /// The candidate counts votes of a former term.
    FormerTermVoteCounted = "former-term-vote-counted",
    /// The follower keeps its own entry where the leader has another one.
    ConflictKept = "conflict-kept",
    /// The follower cuts off what follows the entries of a message, though they match.
    MatchedCutOff = "matched-cut-off",
    /// The follower commits as far as the leader, whether its log is known to be the leader's or not.
    CommitsBeyondTheMatch = "commits-beyond-the-match",
    /// The follower answers a deposed leader under the number of its round.
    DeposedRoundAnswered = "deposed-round-answered",
    /// The leader commits an entry of a former term because a majority has it.
    FormerTermCommitted = "former-term-committed",
    /// The leader counts its own log before that is durable.
    LeaderCountsItselfEarly = "leader-counts-itself-early",
    /// The leader counts what followers have said in a former term.
    FormerTermMatchCounted = "former-term-match-counted",
    /// The leader answers a read without hearing of a majority.
    RaftReadUnconfirmed = "raft-read-unconfirmed",
    /// The leader answers a read before an entry of its own term is committed.
    RaftReadTooEarly = "raft-read-too-early",
    /// One less than a majority of the voters decides.
    RaftQuorumTooSmall = "raft-quorum-too-small",
    /// The position that goes with a snapshot has the term of the last entry of the log.
    PositionOfALaterTerm = "position-of-a-later-term",

    // The rsm.

    /// The rsm applies a command again that was sent again.
    DuplicatesApplied = "duplicates-applied",
    /// The rsm leaves the sessions of clients out of its checkpoints.
    SessionsNotSaved = "sessions-not-saved",
    /// The rsm that takes over a checkpoint keeps its own list of who has proposed what.
    OriginsNotRestored = "origins-not-restored",
    /// The rsm applies what comes next, also when something before it has not come.
    GapApplied = "gap-applied",
    /// The rsm has the log forgotten when it begins a checkpoint, not when that is durable.
    ForgottenBeforeSaved = "forgotten-before-saved",
    /// The rsm answers a read without asking whether its state is the newest.
    ReadServedLocally = "read-served-locally",
    /// The rsm answers a read when its barrier is known, not when that is reached.
    ReadNotAwaited = "read-not-awaited",
    /// The rsm has a read share a barrier that was asked for before the read came.
    ReadSharesOldBarrier = "read-shares-old-barrier",

    // The stage and persistence.

    /// The driver lets a core speak before its records are durable.
    AnsweredBeforeSync = "answered-before-sync",
    /// The journal does not sync what it writes.
    BlockNotSynced = "block-not-synced",
    /// The journal syncs again after a sync that has failed, and goes on.
    FailedSyncTriedAgain = "failed-sync-tried-again",
    /// The journal says that records are durable which came while it was syncing others.
    LaterRecordsReported = "later-records-reported",
    /// The journal takes a torn block at its end for a whole one.
    TornTailTaken = "torn-tail-taken",
    /// The journal does not sync the directory when it begins a segment.
    SegmentNameNotSynced = "segment-name-not-synced",
    /// The journal begins a segment without what the core must remember besides its records.
    SegmentWithoutStanding = "segment-without-standing",
    /// The journal drops segments by the place of their last record, not of their highest.
    TrimByLastMark = "trim-by-last-mark",
    /// A file gets its name before its content is synced.
    FileNotSynced = "file-not-synced",
    /// A file that was fetched becomes a checkpoint before its content is synced.
    FetchedFileNotSynced = "fetched-file-not-synced",
    /// The directory is not synced when a file has got its name.
    FileNameNotSynced = "file-name-not-synced",

    // The store and its clients.

    /// The store carries out a versioned Put whatever version is stored.
    VersionNotCompared = "version-not-compared",
    /// The store that is read from a checkpoint has every key at its first version.
    VersionsNotRestored = "versions-not-restored",
    /// The kvserver that starts anew uses its serials again, under the same client_id.
    SerialsReused = "serials-reused",
    /// The clerk says that it has heard the answers to everything it has asked.
    AcknowledgedTooEarly = "acknowledged-too-early",
    /// The clerk asks again under a new serial.
    RetryIsAnotherCommand = "retry-is-another-command",
    /// The clerk takes a refusal of the second copy of a Put for one of the Put.
    RetryTakenForRefused = "retry-taken-for-refused",

    // Shards.

    /// The group carries out operations on a shard that it has given up.
    GivenUpShardServed = "given-up-shard-served",
    /// The group carries out operations on a shard that has not come yet.
    AwaitedShardServed = "awaited-shard-served",
    /// A shard goes without what its clients were answered.
    SessionsStayBehind = "sessions-stay-behind",
    /// The group takes over a configuration though shards of the one before have not come.
    ConfigurationTooEarly = "configuration-too-early",
    /// The mover has a shard deleted that has been fetched, whether it is durable there or not.
    DeletedWhenFetched = "deleted-when-fetched",

    // Members.

    /// A directory that is empty, and no founder's, acts under the old name at once.
    BlankKeepsItsName = "blank-keeps-its-name",
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no planted error has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownBug(pub String);

impl fmt::Display for UnknownBug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no error called `{}` can be planted", self.0)
    }
}

impl std::error::Error for UnknownBug {}

impl FromStr for Bug {
    type Err = UnknownBug;

    fn from_str(name: &str) -> Result<Bug, UnknownBug> {
        let found = Bug::ALL.iter().find(|bug| bug.name() == name);
        found.copied().ok_or_else(|| UnknownBug(name.into()))
    }
}

/// Whether this error is switched on.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn is_planted(_: Bug) -> bool {
    false
}

#[cfg(feature = "planted")]
pub use switch::{is_planted, plant};

#[cfg(feature = "planted")]
mod switch {
    use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

    use super::Bug;

    /// 0 for none, otherwise one more than the bug's place in the list.
    static PLANTED: AtomicU8 = AtomicU8::new(0);
    const _: () = assert!(Bug::ALL.len() < u8::MAX as usize);

    /// Switches this error on, in the whole process, and every other one off.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.store(bug.map_or(0, |bug| bug as u8 + 1), Relaxed);
    }

    /// Whether this error is switched on.
    #[inline(always)]
    pub fn is_planted(bug: Bug) -> bool {
        PLANTED.load(Relaxed) == bug as u8 + 1
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[cfg(not(feature = "planted"))]
    #[test]
    fn nothing_is_planted_unless_the_code_is_built_for_it() {
        assert!(Bug::ALL.iter().all(|bug| !is_planted(*bug)));
    }

    #[cfg(feature = "planted")]
    #[test]
    fn one_error_is_planted_at_a_time() {
        for planted in Bug::ALL {
            plant(Some(*planted));
            let all: Vec<Bug> = Bug::ALL.iter().copied().filter(|bug| is_planted(*bug)).collect();
            assert_eq!(all, [*planted]);
        }
        plant(None);
        assert!(Bug::ALL.iter().all(|bug| !is_planted(*bug)));
    }

    #[test]
    fn every_error_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        assert_eq!(names.len(), Bug::ALL.len());
        for bug in Bug::ALL {
            let name = bug.name();
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{name}");
            assert_eq!(name.parse(), Ok(*bug));
            assert!(bug.about().ends_with('.') && !bug.about().starts_with(' '), "{name}");
        }
        assert_eq!("none".parse::<Bug>(), Err(UnknownBug("none".into())));
    }
}
