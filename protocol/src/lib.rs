//! quorate-protocol
