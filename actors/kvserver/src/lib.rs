//! quorate-kvserver
