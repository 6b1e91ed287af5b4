//! The sender's end of a mailbox.

use std::{fmt, sync::Arc};

use actix::Recipient;
use quorate_protocol::Name;

use crate::stats::Stats;

/// What an actor can be told. One enum per actor.
pub trait Message: fmt::Display + Send + 'static {
    /// The names of its kinds.
    const KINDS: &'static [&'static str];
    /// Which of [`Message::KINDS`] this one is.
    fn kind(&self) -> usize;
}

/// A message on its way.
pub struct Letter<M> {
    pub(crate) from: Name,
    pub(crate) enqueued_at: u64,
    pub(crate) message: M,
}

impl<M: Send + 'static> actix::Message for Letter<M> {
    type Result = ();
}

/// Where messages for one actor are put. Stays valid when the actor restarts.
pub struct Mailbox<M: Message> {
    pub(crate) recipient: Recipient<Letter<M>>,
    pub(crate) stats: Arc<Stats>,
}

impl<M: Message> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Mailbox { recipient: self.recipient.clone(), stats: self.stats.clone() }
    }
}

impl<M: Message> Mailbox<M> {
    /// Puts a message into the mailbox. Never blocks, keeps the sender's order. A message to an
    /// actor that is gone for good is lost, as on a network.
    pub fn send(&self, from: Name, message: M) {
        let enqueued_at = self.stats.enqueue(message.kind());
        #[expect(clippy::disallowed_methods, reason = "the one place that speaks to actix")]
        self.recipient.do_send(Letter { from, enqueued_at, message });
    }

    /// Whose mailbox it is.
    pub fn name(&self) -> Name {
        self.stats.name()
    }

    /// What can be seen of it.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// The same mailbox, for senders that know only one of the vocabularies that it understands.
    pub fn outlet<T: Send + 'static>(&self) -> Outlet<T>
    where
        M: From<T>,
    {
        let mailbox = self.clone();
        Outlet(Arc::new(move |from, message| mailbox.send(from, M::from(message))))
    }
}

/// A mailbox seen through one vocabulary: the sender need not know whose it is.
pub struct Outlet<T>(Arc<dyn Fn(Name, T) + Send + Sync>);

impl<T> Clone for Outlet<T> {
    fn clone(&self) -> Self {
        Outlet(self.0.clone())
    }
}

impl<T> Outlet<T> {
    /// An outlet that hands every message to a function: for tests and for the edges of a node.
    pub fn from_fn(deliver: impl Fn(Name, T) + Send + Sync + 'static) -> Self {
        Outlet(Arc::new(deliver))
    }

    /// Puts a message in, see [`Mailbox::send`].
    pub fn send(&self, from: Name, message: T) {
        (self.0)(from, message);
    }
}

impl<T> fmt::Debug for Outlet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outlet")
    }
}

impl<T> Eq for Outlet<T> {}

impl<T> PartialEq for Outlet<T> {
    /// The same outlet, not one that leads to the same place.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
