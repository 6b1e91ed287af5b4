//! Which ports the nodes of a local cluster use.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Where node 1 would be, less one, when nothing else is asked for.
pub(crate) const BASE: u16 = 7000;
/// Debug ports lie this far above those of clients.
const DEBUG: u16 = 100;
/// Peer ports lie this far above those of clients.
const PEER: u16 = 200;
/// How far apart the bases lie that are tried one after the other.
const STEP: u16 = 300;
/// Where any free port is looked for: below those that systems give to outgoing connections, so
/// that a node that was stopped finds its port again.
const ANY: std::ops::Range<u16> = 20_000..32_000;

/// The ports of one node, all on loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    /// For clients.
    pub(crate) resp: u16,
    /// For the debug endpoints.
    pub(crate) debug: u16,
    /// For other nodes.
    pub(crate) peer: u16,
}

impl Ports {
    /// Whether each is free at this moment.
    pub(crate) fn are_free(self) -> bool {
        [self.resp, self.debug, self.peer].into_iter().all(is_free)
    }
}

/// The address of a port on loopback.
pub(crate) fn on_loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Whether a server could listen there now.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind(on_loopback(port)).is_ok()
}

/// Chooses ports for `nodes` nodes: those after `base`, or after [`BASE`] when that is not given,
/// or any when it is 0. Also answers what a person should know of the choice.
///
/// # Errors
/// Ports that were asked for are in use; the text says which would do.
pub(crate) fn choose(
    base: Option<u16>,
    nodes: u16,
    is_free: &dyn Fn(u16) -> bool,
) -> Result<(Vec<Ports>, Option<String>), String> {
    let mut free = Free { is_free, used: BTreeSet::new(), next: start() };
    if base == Some(0) {
        let ports = (0..nodes).map(|_| free.anywhere()).collect::<Option<Vec<_>>>();
        return ports.map(|ports| (ports, None)).ok_or_else(none_left);
    }
    let wanted = base.unwrap_or(BASE);
    if wanted.checked_add(PEER + nodes).is_none() {
        return Err(format!("--port {wanted} is too high for {nodes} nodes; below 65000 it fits"));
    }
    let taken = |base: u16| (1..=nodes).map(|i| base + i).find(|&port| !is_free(port));
    let Some(in_use) = taken(wanted) else {
        return free.after(wanted, nodes).map(|ports| (ports, None)).ok_or_else(none_left);
    };
    let others = (BASE + STEP..ANY.start).step_by(usize::from(STEP));
    let other = others.filter(|&other| other != wanted).find(|&other| taken(other).is_none());
    let other = other.ok_or_else(none_left)?;
    if base.is_some() {
        return Err(format!(
            "port {in_use} is in use by another program, and --port {wanted} needs {} to {}: stop \
             that program, or use --port {other}, which is free, or --port 0 for any",
            wanted + 1,
            wanted + nodes
        ));
    }
    let ports = free.after(other, nodes).ok_or_else(none_left)?;
    let mut note = format!("port {in_use} is in use by another program: using {}", other + 1);
    if nodes > 1 {
        note += &format!(" to {}", other + nodes);
    }
    Ok((ports, Some(note)))
}

/// Different for each process, so that two that start together seldom choose the same.
fn start() -> u16 {
    let width = u32::from(ANY.end - ANY.start);
    ANY.start + (std::process::id().wrapping_mul(97) % width) as u16
}

fn none_left() -> String {
    "no free ports are left on loopback; stop what uses them, or name some with --port".into()
}

/// Ports that are free, and were not given away here.
struct Free<'a> {
    is_free: &'a dyn Fn(u16) -> bool,
    used: BTreeSet<u16>,
    next: u16,
}

impl Free<'_> {
    /// The ports of each node after `base`: those that were hoped for when they are free.
    fn after(&mut self, base: u16, nodes: u16) -> Option<Vec<Ports>> {
        self.used.extend((1..=nodes).map(|i| base + i));
        let ports = (1..=nodes).map(|i| {
            let debug = self.this_or_any(base + DEBUG + i)?;
            let peer = self.this_or_any(base + PEER + i)?;
            Some(Ports { resp: base + i, debug, peer })
        });
        ports.collect()
    }

    fn anywhere(&mut self) -> Option<Ports> {
        Some(Ports { resp: self.any()?, debug: self.any()?, peer: self.any()? })
    }

    fn this_or_any(&mut self, port: u16) -> Option<u16> {
        if self.used.insert(port) && (self.is_free)(port) { Some(port) } else { self.any() }
    }

    fn any(&mut self) -> Option<u16> {
        for _ in ANY {
            let port = self.next;
            self.next = if port + 1 < ANY.end { port + 1 } else { ANY.start };
            if self.used.insert(port) && (self.is_free)(port) {
                return Some(port);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(base: Option<u16>, taken: &[u16]) -> Result<(Vec<Ports>, Option<String>), String> {
        choose(base, 3, &|port| !taken.contains(&port))
    }

    fn resp(ports: &[Ports]) -> Vec<u16> {
        ports.iter().map(|ports| ports.resp).collect()
    }

    #[test]
    fn what_was_hoped_for_when_it_is_free() {
        let (ports, note) = chosen(None, &[]).unwrap();
        assert_eq!(ports[0], Ports { resp: 7001, debug: 7101, peer: 7201 });
        assert_eq!(ports[2], Ports { resp: 7003, debug: 7103, peer: 7203 });
        assert_eq!(note, None);
        let (ports, _) = chosen(Some(9000), &[]).unwrap();
        assert_eq!(resp(&ports), [9001, 9002, 9003]);
    }

    #[test]
    fn a_default_that_is_taken_gives_way_and_says_so() {
        let (ports, note) = chosen(None, &[7002, 7303]).unwrap();
        assert_eq!(resp(&ports), [7601, 7602, 7603]);
        let expected = "port 7002 is in use by another program: using 7601 to 7603";
        assert_eq!(note.as_deref(), Some(expected));
    }

    #[test]
    fn a_port_that_was_asked_for_never_gives_way() {
        let error = chosen(Some(7000), &[7003]).unwrap_err();
        assert!(error.contains("port 7003 is in use"), "{error}");
        assert!(error.contains("--port 7300"), "{error}");
        assert!(chosen(Some(65500), &[]).is_err());
    }

    #[test]
    fn other_ports_give_way_one_by_one() {
        let (ports, note) = chosen(None, &[7102]).unwrap();
        assert_eq!(resp(&ports), [7001, 7002, 7003]);
        assert_eq!((ports[0].debug, ports[2].debug), (7101, 7103));
        assert!(ANY.contains(&ports[1].debug), "{ports:?}");
        assert_eq!(note, None);
    }

    #[test]
    fn any_ports_are_all_different() {
        let (ports, _) = chosen(Some(0), &[]).unwrap();
        let all: BTreeSet<u16> = ports.iter().flat_map(|p| [p.resp, p.debug, p.peer]).collect();
        assert_eq!(all.len(), 9);
        assert!(all.iter().all(|port| ANY.contains(port)), "{all:?}");
    }
}
