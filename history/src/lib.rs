//! quorate-history
