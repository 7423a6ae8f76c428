//! What one node of a cluster says of all of them: the answer of `CLUSTER NODES`.

use super::keys::TAGS;

/// A node's name: for its whole life, wherever it lies.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct NodeId([u8; 20]);

impl NodeId {
    fn read(text: &str) -> Option<Self> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }
}

/// Who is the primary of a slot, and since which configuration of the cluster.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Owner {
    pub(super) id: NodeId,
    pub(super) epoch: u64,
}

/// A node as another knows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Known {
    pub(super) id: NodeId,
    /// Empty where the node does not know its own.
    pub(super) host: String,
    pub(super) port: u16,
}

/// What a node says.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// Who says it.
    pub(super) me: NodeId,
    /// All that it knows, itself among them.
    pub(super) nodes: Vec<Known>,
    /// The primary of each tag.
    pub(super) owners: Vec<Option<Owner>>,
    /// How many nodes have slots.
    pub(super) primaries: usize,
}

impl View {
    /// Reads an answer; `slots` are those of the tags, and `by_name` says whether nodes are reached by their host names
    /// where they have one.
    pub(super) fn read(text: &str, slots: &[u16], by_name: bool) -> Option<Self> {
        let mut me = None;
        let (mut nodes, mut primaries) = (Vec::new(), 0);
        let mut owners = vec![None; slots.len()];
        for line in text.lines().filter(|line| !line.is_empty()) {
            let mut fields = line.split(' ');
            let id = NodeId::read(fields.next()?)?;
            let (host, port) = address(fields.next()?, by_name)?;
            let flags = fields.next()?;
            let epoch = fields.nth(3)?.parse().ok()?;
            let owner = Owner { id, epoch };
            fields.next()?;
            let is = |flag: &str| flags.split(',').any(|found| found == flag);
            if is("handshake") {
                continue;
            }
            if is("myself") {
                me = Some(id);
            }
            nodes.push(Known { id, host, port });
            let mut has_slots = false;
            // What is on its way to or from another node stands in brackets, and belongs to whom it is listed for.
            for range in fields.filter(|range| !range.starts_with('[')) {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let range = first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?;
                has_slots = true;
                for (place, _) in
                    owners.iter_mut().zip(slots).filter(|(_, slot)| range.contains(slot))
                {
                    *place = Some(owner);
                }
            }
            primaries += usize::from(has_slots);
        }
        Some(Self { me: me?, nodes, owners, primaries })
    }
}

/// Host and port of `host:port@bus,name,more=…`.
fn address(text: &str, by_name: bool) -> Option<(String, u16)> {
    let mut parts = text.split(',');
    let first = parts.next()?;
    let first = first.split_once('@').map_or(first, |(first, _)| first);
    let (host, port) = first.rsplit_once(':')?;
    let name = parts.next().filter(|name| by_name && !name.is_empty() && !name.contains('='));
    Some((name.unwrap_or(host).to_owned(), port.parse().ok()?))
}

/// The slot of every tag.
pub(super) fn tag_slots() -> Vec<u16> {
    (0..TAGS).map(|tag| super::slots::slot(tag.to_string().as_bytes())).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::store::redis) fn id(number: u8) -> NodeId {
        NodeId([number; 20])
    }

    fn name(number: u8) -> String {
        data_encoding::HEXLOWER.encode(&[number; 20])
    }

    #[test]
    fn an_answer_tells_who_says_it_and_who_is_the_primary_of_what() {
        let (one, two, three) = (name(1), name(2), name(3));
        let text = format!(
            "{one} 127.0.0.1:7001@17001,a.example master - 0 1426238316232 2 connected 5461-10922 [93-<-{two}]\n\
             {two} :7002@17002 myself,master - 0 0 1 connected 0-5460 10923 [77->-{one}]\n\
             {three} ::1:7003@17003,,shard-id=5 slave {one} 0 1426238316232 2 connected\n\
             {} 10.0.0.9:7004@17004 handshake - 0 0 0 connected\n",
            name(4)
        );
        let slots = [0, 5_460, 5_461, 10_922, 10_923, 10_924, 93];
        let view = View::read(&text, &slots, true).unwrap();
        assert_eq!((view.me, view.primaries), (id(2), 2));
        let (first, second) = (Owner { id: id(1), epoch: 2 }, Owner { id: id(2), epoch: 1 });
        let wanted = [
            Some(second),
            Some(second),
            Some(first),
            Some(first),
            Some(second),
            None,
            Some(second),
        ];
        assert_eq!(view.owners, wanted);
        let at = |number, host: &str, port| Known { id: id(number), host: host.into(), port };
        assert_eq!(view.nodes, [at(1, "a.example", 7001), at(2, "", 7002), at(3, "::1", 7003)]);
        let by_address = View::read(&text, &slots, false).unwrap();
        assert_eq!(by_address.nodes[0].host, "127.0.0.1");
    }

    #[test]
    fn what_is_no_such_answer_says_nothing() {
        let own = format!("{} 127.0.0.1:1@2 myself,master - 0 0 1 connected", name(1));
        assert!(View::read(&own, &[1], false).is_some());
        for text in
            ["", "ERR", own.get(..60).unwrap(), &own.replace("myself,", ""), &format!("{own} 7-x")]
        {
            assert!(View::read(text, &[1], false).is_none(), "{text}");
        }
    }
}
