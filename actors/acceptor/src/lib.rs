//! quorate-acceptor
