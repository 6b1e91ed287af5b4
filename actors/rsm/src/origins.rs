//! Who has proposed what: batches of one origin are applied in order, each once.
//!
//! An engine may choose a batch twice, and two batches of one origin in the wrong order (when a
//! leader dies between them). A replica applies a batch only if it is the next one of its origin;
//! this is part of the replicated state, so all of them agree. An origin that sees its own batch
//! left out begins a new life and proposes what is open again, in order.
//!
//! Batches that are placed once come from lives of another kind: any of them may never be chosen,
//! so a batch is applied if it was made after all that were.

use std::collections::BTreeMap;

use quorate_protocol::{NodeId, log::ProposalId};
use serde::{Deserialize, Serialize};

use crate::sessions::EXPIRY_MS;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Origin {
    last_seq: u64,
    last_ms: u64,
}

/// Every life of an rsm that has proposed within the last hour of log time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Origins {
    lives: BTreeMap<(NodeId, u64), Origin>,
    swept_ms: u64,
}

impl Origins {
    /// The last batch of a life that counts as applied; 0 for none.
    pub(crate) fn last_seq(&self, node: NodeId, life: u64) -> u64 {
        self.lives.get(&(node, life)).map_or(0, |origin| origin.last_seq)
    }

    /// Whether a batch is the next one of its origin (`once`: or any later one); if so, it counts
    /// as applied.
    pub(crate) fn admit(&mut self, id: ProposalId, once: bool, time_ms: u64) -> bool {
        let new = || Origin { last_seq: 0, last_ms: time_ms };
        let origin = self.lives.entry((id.node, id.life)).or_insert_with(new);
        let due = origin.last_seq + 1;
        let next = if once { id.seq >= due } else { id.seq == due };
        if next {
            *origin = Origin { last_seq: id.seq, last_ms: time_ms };
        }
        if time_ms.saturating_sub(self.swept_ms) >= EXPIRY_MS / 60 {
            self.swept_ms = time_ms;
            self.lives.retain(|_, origin| time_ms.saturating_sub(origin.last_ms) < EXPIRY_MS);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(life: u64, seq: u64) -> ProposalId {
        ProposalId { node: NodeId(1), life, seq }
    }

    #[test]
    fn batches_of_one_life_come_in_order_and_once() {
        let mut origins = Origins::default();
        assert!(!origins.admit(id(7, 2), false, 0), "the first has not come");
        assert!(origins.admit(id(7, 1), false, 0));
        assert!(!origins.admit(id(7, 1), false, 0), "again");
        assert!(!origins.admit(id(7, 3), false, 0), "one is left out");
        assert!(origins.admit(id(8, 1), false, 0), "another life");
        assert!(origins.admit(id(7, 2), false, 0));
    }

    #[test]
    fn a_batch_that_is_placed_once_may_be_missing_and_is_never_late() {
        let mut origins = Origins::default();
        assert!(origins.admit(id(7, 2), true, 0), "the first is never chosen");
        assert!(!origins.admit(id(7, 1), true, 0), "or too late");
        assert!(!origins.admit(id(7, 2), true, 0), "again");
        assert!(origins.admit(id(7, 5), true, 0));
    }

    #[test]
    fn a_life_that_was_forgotten_must_begin_again() {
        let mut origins = Origins::default();
        assert!(origins.admit(id(7, 1), false, 0));
        assert!(origins.admit(id(8, 1), false, 2 * EXPIRY_MS));
        assert!(!origins.admit(id(7, 2), false, 2 * EXPIRY_MS));
        assert!(origins.admit(id(9, 1), false, 2 * EXPIRY_MS));
    }
}
