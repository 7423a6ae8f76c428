//! For how long a node counts as the primary of a tag: while most nodes of the cluster have said so not long ago.
//!
//! A primary that was stopped or cut off goes on answering when it wakes. Each node's word on a slot only ever moves to a
//! later epoch, and any two majorities of the nodes share one: so once a majority names a successor, none can name the
//! predecessor again, and whoever heard of it before goes by that for one lease at most. All nodes are asked, replicas
//! too, and not the primaries alone: those change with the very failover that is to be agreed on, and a majority of
//! those before it and one of those after it need not share a node.

use std::collections::HashMap;
use std::time::Duration;

use super::view::{NodeId, Owner, View};
use crate::clock::Micros;

/// What each node said last.
#[derive(Debug)]
pub(super) struct Votes {
    heard: HashMap<NodeId, (Micros, View)>,
    lease: Duration,
    /// Whether the word of one node is enough, for ever: a control of a test.
    lease_off: bool,
}

/// Who is the primary of a tag.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Standing {
    pub(super) owner: Owner,
    /// Before that moment it was confirmed by enough nodes; later it does not count.
    pub(super) until: Micros,
}

impl Votes {
    pub(super) fn new(lease: Duration, lease_off: bool) -> Self {
        Self { heard: HashMap::new(), lease, lease_off }
    }

    /// A node said this when asked at `asked`.
    pub(super) fn hear(&mut self, asked: Micros, view: View) {
        if !self.lease_off {
            self.heard.retain(|_, (at, _)| asked.since(*at) < FORGOTTEN);
        }
        let before = self.heard.get(&view.me).map(|(at, _)| *at);
        if before.is_none_or(|before| before <= asked) {
            self.heard.insert(view.me, (asked, view));
        }
    }

    /// What was said so shortly before `now` that it counts.
    pub(super) fn fresh(&self, now: Micros) -> impl Iterator<Item = (Micros, &View)> {
        let all = self.heard.values().map(|(at, view)| (*at, view));
        all.filter(move |(at, _)| self.lease_off || *at + self.lease > now)
    }

    /// Whether any node has spoken of this one, or it has itself.
    pub(super) fn knows(&self, id: NodeId) -> bool {
        self.heard.values().any(|(_, view)| view.nodes.iter().any(|node| node.id == id))
    }

    /// How many nodes most of them are. Who knows of the most nodes is right.
    fn majority(&self, now: Micros) -> usize {
        self.fresh(now).map(|(_, view)| view.nodes.len()).max().unwrap_or(0) / 2 + 1
    }

    /// When those that make a majority were asked, at the latest; `None` where there is none.
    pub(super) fn asked(&self, now: Micros) -> Option<Micros> {
        nth_latest(self.fresh(now).map(|(at, _)| at).collect(), self.majority(now))
    }

    /// The fewest nodes with slots that a fresh word speaks of.
    pub(super) fn primaries(&self, now: Micros) -> Option<usize> {
        self.fresh(now).map(|(_, view)| view.primaries).min()
    }

    /// Who is the primary of each of so many tags.
    pub(super) fn standings(&self, tags: usize, now: Micros) -> Vec<Option<Standing>> {
        let (views, majority) = (self.fresh(now).collect::<Vec<_>>(), self.majority(now));
        // Of many tags the same is said.
        let mut known: Vec<(Vec<Option<Owner>>, Option<Standing>)> = Vec::new();
        let standing = |tag: usize| {
            let said = views.iter().map(|(_, view)| view.owners.get(tag).copied().flatten());
            if let Some((_, standing)) =
                known.iter().find(|(other, _)| said.clone().eq(other.iter().copied()))
            {
                return *standing;
            }
            let said: Vec<_> = said.collect();
            let words =
                views.iter().zip(&said).filter_map(|((at, _), owner)| Some((*at, (*owner)?)));
            let standing = self.standing(&words.collect::<Vec<_>>(), majority);
            known.push((said, standing));
            standing
        };
        (0..tags).map(standing).collect()
    }

    /// Who is the primary of a tag, by what is said of it.
    fn standing(&self, words: &[(Micros, Owner)], majority: usize) -> Option<Standing> {
        if self.lease_off {
            let latest = words.iter().max_by_key(|(_, owner)| owner.epoch)?;
            return Some(Standing { owner: latest.1, until: Micros(u64::MAX) });
        }
        words.iter().find_map(|(_, owner)| {
            let alike = words.iter().filter(|(_, other)| other == owner).map(|(at, _)| *at);
            let since = nth_latest(alike.collect(), majority)?;
            Some(Standing { owner: *owner, until: since + self.lease })
        })
    }
}

/// The moment since which so many of them lie.
fn nth_latest(mut moments: Vec<Micros>, count: usize) -> Option<Micros> {
    moments.sort_unstable_by(|one, other| other.cmp(one));
    moments.get(count.checked_sub(1)?).copied()
}

/// When a node's word is dropped: long after it counts.
const FORGOTTEN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::super::view::Known;
    use super::super::view::tests::id;
    use super::*;

    const LEASE: Duration = Duration::from_secs(1);

    fn at(ms: u64) -> Micros {
        Micros(1_000_000_000 + ms * 1_000)
    }

    /// What node `me` of `nodes` says of the one tag there is.
    fn word(me: u8, nodes: u8, owner: u8, epoch: u64) -> View {
        let known = (1..=nodes).map(|n| Known { id: id(n), host: String::new(), port: n.into() });
        View {
            me: id(me),
            nodes: known.collect(),
            owners: vec![Some(Owner { id: id(owner), epoch })],
            primaries: 3,
        }
    }

    fn votes(words: &[(u64, View)]) -> Votes {
        let mut votes = Votes::new(LEASE, false);
        for (ms, view) in words {
            votes.hear(at(*ms), view.clone());
        }
        votes
    }

    fn until(votes: &Votes, ms: u64) -> Option<(u8, Micros)> {
        let standing = votes.standings(1, at(ms)).remove(0)?;
        let owner = (1..=9).find(|n| id(*n) == standing.owner.id).unwrap();
        Some((owner, standing.until))
    }

    #[test]
    fn it_takes_most_nodes_and_counts_from_the_oldest_of_them() {
        let mut votes =
            votes(&[(0, word(1, 6, 1, 1)), (10, word(2, 6, 1, 1)), (20, word(3, 6, 1, 1))]);
        assert_eq!(until(&votes, 30), None, "three of six");
        votes.hear(at(40), word(4, 6, 1, 1));
        assert_eq!(until(&votes, 50), Some((1, at(1_000))));
        votes.hear(at(60), word(5, 6, 1, 1));
        assert_eq!(until(&votes, 70), Some((1, at(1_010))), "four of the five");
        // To the microsecond.
        assert!(votes.standings(1, Micros(at(1_010).0 - 1))[0].is_some());
        assert_eq!(until(&votes, 1_010), None);
    }

    #[test]
    fn whoever_says_another_thing_takes_back_what_it_said() {
        let all = |owner, epoch, ms| (1..=6).map(move |me| (ms, word(me, 6, owner, epoch)));
        let mut votes = votes(&all(1, 1, 0).collect::<Vec<_>>());
        assert_eq!(until(&votes, 10), Some((1, at(1_000))));
        for me in 1..=2 {
            votes.hear(at(20), word(me, 6, 4, 7));
        }
        assert_eq!(until(&votes, 30), Some((1, at(1_000))), "four are left");
        votes.hear(at(20), word(3, 6, 4, 7));
        assert_eq!(until(&votes, 30), None, "three against three");
        votes.hear(at(25), word(4, 6, 4, 7));
        assert_eq!(until(&votes, 30), Some((4, at(1_020))));
        // What was asked before comes in after it.
        votes.hear(at(15), word(4, 6, 1, 1));
        assert_eq!(until(&votes, 30), Some((4, at(1_020))));
    }

    #[test]
    fn an_epoch_of_which_only_some_have_heard_is_another_configuration() {
        let words: Vec<_> =
            (1..=6).map(|me| (0, word(me, 6, 1, if me > 3 { 9 } else { 1 }))).collect();
        assert_eq!(until(&votes(&words), 10), None);
    }

    #[test]
    fn a_cut_off_node_and_the_gateway_beside_it_are_no_majority() {
        let votes = votes(&[(0, word(1, 6, 1, 1))]);
        assert_eq!(until(&votes, 10), None);
        // Nor are those who have been told of fewer nodes, beside one who knows.
        let words: Vec<_> =
            (1..=2).map(|me| (0, word(me, 2, 1, 1))).chain([(0, word(3, 6, 1, 1))]).collect();
        assert_eq!(until(&self::votes(&words), 10), None);
    }

    #[test]
    fn no_two_owners_of_one_slot_ever_count_at_a_time() {
        // Every way that six nodes can be split into those who have heard of a failover and those who have not.
        for heard in 0_u8..64 {
            let mut votes = Votes::new(LEASE, false);
            for me in 1..=6 {
                let knows = heard >> (me - 1) & 1 == 1;
                votes
                    .hear(at(0), word(me, 6, if knows { 4 } else { 1 }, if knows { 7 } else { 1 }));
            }
            let owner = until(&votes, 1).map(|(owner, _)| owner);
            let wanted = match heard.count_ones() {
                0..=2 => Some(1),
                3 => None,
                _ => Some(4),
            };
            assert_eq!(owner, wanted, "{heard:06b}");
        }
    }

    #[test]
    fn without_a_lease_one_word_is_enough_for_ever() {
        let mut votes = Votes::new(LEASE, true);
        votes.hear(at(0), word(1, 6, 1, 1));
        assert_eq!(until(&votes, 3_600_000), Some((1, Micros(u64::MAX))));
    }
}
