//! quorate-gateway
