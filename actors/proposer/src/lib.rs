//! quorate-proposer
