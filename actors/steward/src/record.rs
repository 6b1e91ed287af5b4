//! What a directory that was not there when its group was formed knows of itself.

use quorate_protocol::{Configuration, NodeId};
use serde::{Deserialize, Serialize};

/// The format that this version writes, and the newest that it reads.
const FORMAT: u32 = 1;

/// Which member a directory holds, by what its group has said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    format: u32,
    /// The member: this machine, in the life that was given to this directory.
    pub node: NodeId,
    /// Who the members were when it was taken in, itself included.
    pub configuration: Configuration,
}

impl Membership {
    /// The directory holds `node`.
    pub fn new(node: NodeId, configuration: Configuration) -> Self {
        Membership { format: FORMAT, node, configuration }
    }

    /// From the bytes of its file.
    ///
    /// # Errors
    /// What is wrong with them, and what to do.
    pub fn decode(bytes: &[u8]) -> Result<Membership, String> {
        let found: Membership = rmp_serde::from_slice(bytes)
            .map_err(|error| format!("no membership can be read from it: {error}"))?;
        match found.format {
            FORMAT if found.node.life() > 0 => Ok(found),
            FORMAT => Err("it names no life of the node".into()),
            newer => Err(format!(
                "it has format {newer}, this version knows formats up to {FORMAT}: use the newer version"
            )),
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        quorate_protocol::encode(self).into()
    }
}

#[cfg(test)]
mod tests {
    use quorate_protocol::{Change, Incarnation, Member};

    use super::*;

    #[test]
    fn a_membership_reads_back_and_a_newer_one_is_named() {
        let member = Member { node: NodeId(3), incarnation: Incarnation(7) };
        let formed = Configuration::of([1, 2, 3].map(NodeId));
        let configuration = formed.after(&Change::Replace(member)).unwrap();
        let node = configuration.admitted(member).unwrap();
        let membership = Membership::new(node, configuration);
        assert_eq!(Membership::decode(&membership.encode()), Ok(membership.clone()));
        let newer = Membership { format: 2, ..membership.clone() }.encode();
        assert!(Membership::decode(&newer).unwrap_err().contains("format 2"));
        let plain = Membership { node: NodeId(3), ..membership }.encode();
        assert!(Membership::decode(&plain).is_err(), "a founder has none");
        assert!(Membership::decode(b"garbage").is_err());
    }
}
