//! quorate-stage
