//! quorate-persistence
