//! quorate-rsm
