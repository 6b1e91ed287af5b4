//! The Redis protocol, RESP2 and RESP3: bytes to requests, answers to bytes, and the client's side
//! of both.
//!
//! ```text
//!   client          gateway
//!      | -- *2 $3 GET $1 k --> |   request::Decoder   a list of byte strings
//!      | <------ $5 value ---- |   encode             a Value, in the connection's protocol
//! ```
//!
//! Requests are decoded without copying: an argument is a slice of what was read. Whatever a peer
//! sends costs memory in proportion to the bytes it has really sent, never to what it announces.

pub mod client;
mod encode;
mod inline;
mod line;
pub mod request;
mod value;

pub use encode::encode;
pub use request::{Decoder, ProtocolError};
pub use value::{Protocol, Value};
