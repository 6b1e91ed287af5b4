//! quorate-dashboard
