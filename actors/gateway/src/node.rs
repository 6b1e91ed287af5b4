//! What the gateway must know about its node to answer for it. Plain data, filled in by the shell.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use quorate_kvserver::HASH_SLOT_COUNT;

/// A node as clients see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// 40 lower-case hexadecimal digits, different for each node and the same for ever.
    pub id: String,
    /// Where clients reach it. Empty: the host that the client has asked.
    pub host: String,
    /// Its Redis port.
    pub port: u16,
    /// Its port for other nodes.
    pub peer_port: u16,
    /// Whether it answers other nodes.
    pub alive: bool,
    /// The hash slots whose leader it is, as far as is known.
    pub leads: Vec<RangeInclusive<u16>>,
}

/// The node and what it knows of the others, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeInfo {
    /// This node.
    pub own: Member,
    /// The others.
    pub peers: Vec<Member>,
    /// Version of this program.
    pub version: String,
    /// Process that it runs in.
    pub process_id: u32,
    /// Microseconds since 1970, by the shell's clock.
    pub now_us: u64,
    /// Seconds since the node began.
    pub uptime_s: u64,
    /// Whether it is still recovering, or already stopping.
    pub loading: bool,
    /// Whether a majority can be reached.
    pub quorum: bool,
    /// Keys in this node's replica.
    pub keys: u64,
    /// Bytes of the keys and values in this node's replica.
    pub bytes: u64,
    /// What has happened since the node began.
    pub counters: Counters,
}

/// What has happened at the gateway since the node began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections that are open now.
    pub clients: u64,
    /// Connections that were accepted.
    pub connections: u64,
    /// Connections that were refused.
    pub rejected: u64,
    /// Commands that were answered.
    pub commands: u64,
    /// Errors among the answers.
    pub errors: u64,
    /// Bytes read.
    pub input_bytes: u64,
    /// Bytes written.
    pub output_bytes: u64,
}

impl NodeInfo {
    /// Every node, this one first.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        std::iter::once(&self.own).chain(&self.peers)
    }

    /// Who to ask for which slots: all 16384, in order, without gap or overlap. That is the leader
    /// where one is known and alive, otherwise this node: any node answers for any key.
    pub(crate) fn ranges(&self) -> Vec<(RangeInclusive<u16>, &Member)> {
        // Where ranges begin, with who leads from there on; later claims replace earlier ones.
        let mut from = BTreeMap::from([(0, &self.own)]);
        for member in self.members().filter(|member| member.alive) {
            for claim in &member.leads {
                let (start, end) = (*claim.start(), (*claim.end()).min(HASH_SLOT_COUNT - 1));
                if start > end {
                    continue;
                }
                let after = end + 1;
                if after < HASH_SLOT_COUNT {
                    let next = from.range(..=after).next_back().map_or(&self.own, |(_, who)| who);
                    from.insert(after, next);
                }
                from.retain(|&at, _| at < start || at > end);
                from.insert(start, member);
            }
        }
        let mut ranges: Vec<(RangeInclusive<u16>, &Member)> = Vec::new();
        for (&start, &who) in &from {
            match ranges.last_mut() {
                Some((_, last)) if std::ptr::eq(*last, who) => continue,
                Some((range, _)) => *range = *range.start()..=start - 1,
                None => {}
            }
            ranges.push((start..=HASH_SLOT_COUNT - 1, who));
        }
        ranges
    }

    /// The live nodes that lead nothing: they answer for any key all the same.
    pub(crate) fn followers(&self) -> Vec<&Member> {
        let ranges = self.ranges();
        self.members()
            .filter(|member| member.alive)
            .filter(|member| !ranges.iter().any(|(_, leader)| std::ptr::eq(*leader, *member)))
            .collect()
    }

    /// How many other nodes hold a write when it is acknowledged: a majority without this one.
    pub(crate) fn copies_elsewhere(&self) -> u64 {
        self.peers.len().div_ceil(2) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(claims: &[&[(u16, u16)]]) -> NodeInfo {
        let mut members = claims.iter().enumerate().map(|(n, claims)| Member {
            port: n as u16,
            alive: true,
            leads: claims.iter().map(|&(start, end)| start..=end).collect(),
            ..Member::default()
        });
        let own = members.next().expect("one node");
        NodeInfo { own, peers: members.collect(), ..NodeInfo::default() }
    }

    fn ranges(node: &NodeInfo) -> Vec<(u16, u16, u16)> {
        node.ranges().iter().map(|(r, who)| (*r.start(), *r.end(), who.port)).collect()
    }

    #[test]
    fn every_slot_has_somebody_to_ask() {
        for (claims, expected) in [
            (&[&[][..], &[]][..], &[(0, 16383, 0)][..]),
            (&[&[(0, 16383)], &[]], &[(0, 16383, 0)]),
            (&[&[], &[(0, 16383)]], &[(0, 16383, 1)]),
            (&[&[], &[(5, 9)], &[(10, 10)]], &[(0, 4, 0), (5, 9, 1), (10, 10, 2), (11, 16383, 0)]),
            (&[&[], &[(0, 99)], &[(50, 16383)]], &[(0, 49, 1), (50, 16383, 2)]),
            (
                &[&[], &[(0, 99)], &[(20, 29)]],
                &[(0, 19, 1), (20, 29, 2), (30, 99, 1), (100, 16383, 0)],
            ),
            (&[&[], &[(16383, u16::MAX), (20000, 20001)]], &[(0, 16382, 0), (16383, 16383, 1)]),
        ] {
            assert_eq!(ranges(&node(claims)), expected, "{claims:?}");
        }
    }

    #[test]
    fn a_dead_leader_is_nobody_to_ask() {
        let mut node = node(&[&[], &[(0, 16383)], &[]]);
        assert_eq!(node.followers().iter().map(|m| m.port).collect::<Vec<_>>(), [0, 2]);
        node.peers[0].alive = false;
        assert_eq!(ranges(&node), [(0, 16383, 0)]);
        assert_eq!(node.followers().iter().map(|m| m.port).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn an_acknowledged_write_is_on_a_majority() {
        for (nodes, elsewhere) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (7, 3)] {
            let node =
                NodeInfo { peers: vec![Member::default(); nodes - 1], ..NodeInfo::default() };
            assert_eq!(node.copies_elsewhere(), elsewhere, "{nodes} nodes");
        }
    }
}
