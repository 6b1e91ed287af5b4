//! quorate-clerk
