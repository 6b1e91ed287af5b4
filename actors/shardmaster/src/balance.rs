//! Even shares, with as few moves as can be.

use std::collections::BTreeMap;

use quorate_protocol::GroupId;

use crate::messages::Configuration;

/// Gives every shard a member group, so that no group has two more than another (M3).
///
/// With `q` shards for each of the groups and `r` over, `r` groups have to have `q + 1`. Those that
/// have most already get them, by number where they have as many: then the fewest shards are above
/// anybody's share. What is above, and what has no member for an owner, moves; nothing else does.
pub fn rebalance(configuration: &mut Configuration) {
    let counts = configuration.counts();
    let Some(share) = configuration.owners.len().checked_div(counts.len()) else {
        configuration.owners.fill(GroupId(0));
        return;
    };
    let over = configuration.owners.len() % counts.len();
    let mut by_count: Vec<(GroupId, usize)> = counts.into_iter().collect();
    by_count.sort_by_key(|(group, count)| (std::cmp::Reverse(*count), *group));
    let mut room: BTreeMap<GroupId, usize> = by_count
        .into_iter()
        .enumerate()
        .map(|(place, (group, _))| (group, share + usize::from(place < over)))
        .collect();
    // Who stays takes room first, the lowest shards of each group.
    let mut homeless = vec![];
    for (shard, owner) in configuration.owners.iter().enumerate() {
        match room.get_mut(owner) {
            Some(left) if *left > 0 => *left -= 1,
            _ => homeless.push(shard),
        }
    }
    let mut free = room.into_iter().flat_map(|(group, left)| std::iter::repeat_n(group, left));
    for shard in homeless {
        if let Some(group) = free.next() {
            configuration.owners[shard] = group;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(owners: &[u32], groups: &[u32]) -> Configuration {
        Configuration {
            number: 1,
            owners: owners.iter().map(|group| GroupId(*group)).collect(),
            groups: groups.iter().map(|group| (GroupId(*group), vec![])).collect(),
        }
    }

    fn balanced(owners: &[u32], groups: &[u32]) -> Vec<u32> {
        let mut configuration = configuration(owners, groups);
        rebalance(&mut configuration);
        configuration.owners.iter().map(|group| group.0).collect()
    }

    #[test]
    fn shards_go_where_there_is_room_and_nowhere_else() {
        assert_eq!(balanced(&[0, 0, 0, 0], &[1]), [1, 1, 1, 1]);
        assert_eq!(balanced(&[1, 1, 1, 1], &[1, 2]), [1, 1, 2, 2]);
        assert_eq!(balanced(&[1, 1, 2, 2], &[2]), [2, 2, 2, 2]);
        assert_eq!(balanced(&[1, 1, 2, 2], &[]), [0, 0, 0, 0]);
        assert_eq!(balanced(&[1, 1, 1, 2, 2], &[1, 2]), [1, 1, 1, 2, 2], "balanced already");
        assert_eq!(balanced(&[2, 2, 2, 1, 1], &[1, 2]), [2, 2, 2, 1, 1], "and so is this");
        assert_eq!(balanced(&[1, 2], &[1, 2, 3, 4]), [1, 2], "more groups than shards");
    }

    /// The fewest moves of any balanced assignment, by trying all.
    fn fewest(owners: &[u32], groups: &[u32]) -> usize {
        let mut best = usize::MAX;
        let total = groups.len().pow(owners.len() as u32);
        for mut code in 0..total {
            let mut counts = vec![0; groups.len()];
            let mut moves = 0;
            for owner in owners {
                let choice = code % groups.len();
                code /= groups.len();
                counts[choice] += 1;
                moves += usize::from(groups[choice] != *owner);
            }
            let least = counts.iter().min().copied().unwrap_or(0);
            let most = counts.iter().max().copied().unwrap_or(0);
            if most - least <= 1 {
                best = best.min(moves);
            }
        }
        best
    }

    #[test]
    fn no_balanced_assignment_has_fewer_moves() {
        let mut tried = 0;
        // Every assignment of 5 shards to 4 groups, one of them a stranger or nobody, and every set
        // of members.
        for code in 0..4_usize.pow(5) {
            let owners: Vec<u32> =
                (0..5).map(|shard| (code / 4_usize.pow(shard) % 4) as u32).collect();
            for members in [vec![1], vec![1, 2], vec![2, 3], vec![1, 2, 3], vec![1, 2, 3, 4, 5, 6]]
            {
                let after = balanced(&owners, &members);
                let moves = owners.iter().zip(&after).filter(|(one, other)| one != other).count();
                assert_eq!(moves, fewest(&owners, &members), "{owners:?} among {members:?}");
                let count = |group: &u32| after.iter().filter(|owner| *owner == group).count();
                let least = members.iter().map(count).min().unwrap_or(0);
                let most = members.iter().map(count).max().unwrap_or(0);
                assert!(most - least <= 1, "{owners:?} among {members:?}: {after:?}");
                tried += 1;
            }
        }
        assert_eq!(tried, 5 * 1024);
    }
}
