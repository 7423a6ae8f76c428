//! What the trait promises, asked of each store.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use countersign::key::Tag;
use countersign::registry::book::{Kind, Query, Registry, Write};
use countersign::registry::embedded::Embedded;

use super::server::Server;
use super::support::{all, conflict, key, left_by, note, whole_history};

/// Each promise is a test for each store.
macro_rules! promises {
    ($($promise:ident)*) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(Arc::new(super::Embedded::in_memory().unwrap())).await;
            })*
            use std::sync::Arc;
        }
        mod in_a_file {
            $(#[tokio::test]
            async fn $promise() {
                let directory = tempfile::tempdir().unwrap();
                let file = directory.path().join("registry.redb");
                super::$promise(Arc::new(super::Embedded::open(&file).unwrap())).await;
            })*
            use std::sync::Arc;
        }
        mod in_postgres {
            $(#[tokio::test]
            async fn $promise() {
                let server = super::Server::shared();
                let (registry, _) = server.registry().await;
                super::$promise(Arc::new(registry)).await;
            })*
            use std::sync::Arc;
        }
    };
}

promises! {
    what_was_written_is_found_as_it_was_and_nothing_else_is
    a_write_must_name_the_version_that_it_replaces
    all_of_a_commit_is_written_or_nothing
    a_record_stands_in_a_commit_once
    nothing_to_write_makes_no_revision
    every_change_of_a_record_is_told_the_newest_first
    lists_are_in_the_order_of_bytes_and_go_on_behind_the_cursor
    lists_follow_a_record_to_another_account
    changes_are_told_in_order_and_no_revision_is_parted
    writers_at_the_same_time_lose_nothing_and_leave_no_gap
    whoever_waits_for_a_change_is_woken
    every_key_has_its_tag_once
    any_thread_may_ask
}

type Store = Arc<dyn Registry>;

async fn what_was_written_is_found_as_it_was_and_nothing_else_is(store: Store) {
    assert_eq!(store.revision().await.unwrap(), 0);
    let body: Vec<u8> = (0..1_u32 << 20).flat_map(u32::to_le_bytes).collect();
    let odd = ["", "a", "A", "a\0", "a\0b", "É", "\u{10ffff}", "a'b\\c\"", "  "];
    let mut written = Vec::new();
    for (id, number) in odd.iter().zip(0..) {
        let write = Write {
            kind: Kind::Ban,
            id: (*id).into(),
            replaces: None,
            account: (number % 2 == 0).then(|| format!("account {id}")),
            application: (number % 3 == 0).then(|| format!("application {id}")),
            body: if number == 3 { body.clone() } else { vec![0, 255, b'\\'] },
        };
        assert_eq!(store.commit(vec![write.clone()], note(number)).await.unwrap(), number + 1);
        written.push(left_by(&write, number + 1));
    }
    for record in &written {
        assert_eq!(store.find(Kind::Ban, &record.id).await.unwrap().as_ref(), Some(record));
        assert_eq!(store.find(Kind::Key, &record.id).await.unwrap(), None);
    }
    for id in ["b", "a ", "\0", "é", "a\0\0"] {
        assert_eq!(store.find(Kind::Ban, id).await.unwrap(), None, "{id:?}");
    }
    let told = store.since(0, 100).await.unwrap();
    assert_eq!(
        told.iter().map(|change| &change.record).collect::<Vec<_>>(),
        Vec::from_iter(&written)
    );
    let noted: Vec<_> = told.into_iter().map(|change| change.note).collect();
    assert_eq!(noted, (0..).take(odd.len()).map(note).collect::<Vec<_>>());
}

async fn a_write_must_name_the_version_that_it_replaces(store: Store) {
    for replaces in [0, 1, u64::MAX] {
        let outcome = store.commit(vec![key("one", Some(replaces))], note(1)).await;
        assert_eq!(conflict(outcome), (Kind::Key, "one".into(), None));
    }
    assert_eq!(store.commit(vec![key("one", None)], note(2)).await.unwrap(), 1);
    assert_eq!(store.commit(vec![key("one", Some(1))], note(3)).await.unwrap(), 2);
    for replaces in [None, Some(0), Some(1), Some(3), Some(u64::MAX)] {
        let outcome = store.commit(vec![key("one", replaces)], note(4)).await;
        assert_eq!(conflict(outcome), (Kind::Key, "one".into(), Some(2)), "{replaces:?}");
    }
    assert_eq!(store.revision().await.unwrap(), 2);
    assert_eq!(whole_history(&*store).await.len(), 2);
}

async fn all_of_a_commit_is_written_or_nothing(store: Store) {
    store.commit(vec![key("old", None)], note(1)).await.unwrap();
    let mixed = vec![key("new", None), key("old", Some(1)), key("old two", Some(1))];
    assert_eq!(conflict(store.commit(mixed, note(2)).await), (Kind::Key, "old two".into(), None));
    assert_eq!(store.find(Kind::Key, "new").await.unwrap(), None);
    assert_eq!(store.find(Kind::Key, "old").await.unwrap().unwrap().version, 1);
    assert_eq!(store.history(Kind::Key, "new", None, 10).await.unwrap(), []);
    assert_eq!(store.revision().await.unwrap(), 1);
    let good = vec![key("new", None), key("old", Some(1)), key("old two", None)];
    assert_eq!(store.commit(good.clone(), note(3)).await.unwrap(), 2);
    let told = store.since(1, 100).await.unwrap();
    let written: Vec<_> = good.iter().map(|write| left_by(write, 2)).collect();
    assert_eq!(told.into_iter().map(|change| change.record).collect::<Vec<_>>(), written);
}

async fn a_record_stands_in_a_commit_once(store: Store) {
    for (first, second, left) in [(None, Some(1), 1), (None, None, 1)] {
        let twice = vec![key("one", first), key("two", None), key("one", second)];
        let outcome = store.commit(twice, note(1)).await;
        assert_eq!(conflict(outcome), (Kind::Key, "one".into(), Some(left)));
    }
    let switch = Write { kind: Kind::Switch, ..key("one", None) };
    assert_eq!(store.commit(vec![key("one", None), switch], note(1)).await.unwrap(), 1);
}

async fn nothing_to_write_makes_no_revision(store: Store) {
    assert_eq!(store.commit(Vec::new(), note(1)).await.unwrap(), 0);
    store.commit(vec![key("one", None)], note(2)).await.unwrap();
    assert_eq!(store.commit(Vec::new(), note(3)).await.unwrap(), 1);
    assert_eq!(whole_history(&*store).await.len(), 1);
}

async fn every_change_of_a_record_is_told_the_newest_first(store: Store) {
    store.commit(vec![key("one", None), key("other", None)], note(0)).await.unwrap();
    for version in 1..6 {
        store.commit(vec![key("other", Some(version))], note(100)).await.unwrap();
        store.commit(vec![key("one", Some(version))], note(version)).await.unwrap();
    }
    let told = async |before, limit| {
        let history = store.history(Kind::Key, "one", before, limit).await.unwrap();
        history.into_iter().map(|change| (change.record.version, change.note)).collect::<Vec<_>>()
    };
    let newest: Vec<_> = (1..=6).rev().map(|version| (version, note(version - 1))).collect();
    assert_eq!(told(None, 100).await, newest);
    assert_eq!(told(None, 2).await, newest[..2]);
    assert_eq!(told(None, 0).await, []);
    let fourth = store.history(Kind::Key, "one", None, 100).await.unwrap()[2].record.revision;
    assert_eq!(told(Some(fourth), 2).await, newest[3..5]);
    assert_eq!(told(Some(1), 100).await, []);
    assert_eq!(told(Some(u64::MAX), 100).await, newest);
    assert_eq!(store.history(Kind::Account, "one", None, 9).await.unwrap(), []);
}

/// In the order of bytes, which no language sorts by.
const IDS: [&str; 10] = ["", "-", "B", "Ba", "_", "a", "a\0", "aa", "b", "é"];

async fn lists_are_in_the_order_of_bytes_and_go_on_behind_the_cursor(store: Store) {
    let mut writes: Vec<_> = IDS.iter().map(|id| key(id, None)).collect();
    writes.reverse();
    for (write, number) in writes.iter_mut().zip(0..) {
        write.account = [Some("acme"), Some("acm"), None][number % 3].map(str::to_owned);
        write.application = [Some("bot"), None][number % 2].map(str::to_owned);
    }
    let others = [Kind::Account, Kind::Own].map(|kind| Write { kind, ..key("a", None) });
    store.commit([writes.clone(), others.to_vec()].concat(), note(0)).await.unwrap();
    for account in [None, Some("acme"), Some("acm"), Some("acmes"), Some("")] {
        for application in [None, Some("bot"), Some("bo")] {
            let of = |is: &Option<String>, wanted: Option<&str>| {
                wanted.is_none_or(|wanted| is.as_deref() == Some(wanted))
            };
            let wanted = writes
                .iter()
                .rev()
                .filter(|write| of(&write.account, account) && of(&write.application, application));
            let wanted: Vec<_> = wanted.map(|write| left_by(write, 1)).collect();
            for limit in 1..=IDS.len() {
                let mut listed = Vec::new();
                for _ in 0..=IDS.len() {
                    let query = Query {
                        kind: Kind::Key,
                        account: account.map(str::to_owned),
                        application: application.map(str::to_owned),
                        after: listed
                            .last()
                            .map(|last: &countersign::registry::book::Record| last.id.clone()),
                        limit,
                    };
                    let page = store.list(query).await.unwrap();
                    assert!(page.len() <= limit);
                    listed.extend(page);
                }
                assert_eq!(listed, wanted, "{account:?} {application:?} by {limit}");
            }
        }
    }
    assert_eq!(store.list(Query { limit: 0, ..all(Kind::Key) }).await.unwrap(), []);
    assert_eq!(store.list(all(Kind::Factor)).await.unwrap(), []);
}

async fn lists_follow_a_record_to_another_account(store: Store) {
    let of = |account: Option<&str>, replaces| Write {
        account: account.map(str::to_owned),
        application: account.map(str::to_owned),
        ..key("one", replaces)
    };
    let listed = async |account: &str| {
        let account = Some(account.to_owned());
        let by_account = Query { account: account.clone(), ..all(Kind::Key) };
        let by_application = Query { application: account, ..all(Kind::Key) };
        let counts = (store.list(by_account).await, store.list(by_application).await);
        let (counts, same) = (counts.0.unwrap(), counts.1.unwrap());
        assert_eq!(counts, same);
        counts.len()
    };
    store.commit(vec![of(Some("acme"), None)], note(0)).await.unwrap();
    assert_eq!((listed("acme").await, listed("bolt").await), (1, 0));
    store.commit(vec![of(Some("bolt"), Some(1))], note(1)).await.unwrap();
    assert_eq!((listed("acme").await, listed("bolt").await), (0, 1));
    store.commit(vec![of(None, Some(2))], note(2)).await.unwrap();
    assert_eq!((listed("acme").await, listed("bolt").await), (0, 0));
    store.commit(vec![of(Some("acme"), Some(3))], note(3)).await.unwrap();
    assert_eq!((listed("acme").await, listed("bolt").await), (1, 0));
}

async fn changes_are_told_in_order_and_no_revision_is_parted(store: Store) {
    let sizes = [1_usize, 3, 2, 5, 1];
    for (size, number) in sizes.iter().zip(0..) {
        let writes = (0..*size).map(|n| key(&format!("{number}-{n}"), None)).collect();
        store.commit(writes, note(number)).await.unwrap();
    }
    for known in 0..=sizes.len() {
        for limit in 0..=13 {
            let told = store.since(known as u64, limit).await.unwrap();
            let mut wanted = Vec::new();
            for (size, number) in sizes.iter().zip(0..).skip(known) {
                if limit == 0 || (!wanted.is_empty() && wanted.len() + size > limit) {
                    break;
                }
                wanted.extend((0..*size).map(|n| (number + 1, format!("{number}-{n}"))));
            }
            let told: Vec<_> =
                told.into_iter().map(|told| (told.record.revision, told.record.id)).collect();
            assert_eq!(told, wanted, "after {known} at most {limit}");
        }
    }
    for beyond in [6, 1_000, u64::MAX - 1, u64::MAX] {
        assert_eq!(store.since(beyond, 100).await.unwrap(), []);
    }
}

async fn writers_at_the_same_time_lose_nothing_and_leave_no_gap(store: Store) {
    const WRITERS: u64 = 16;
    const EACH: u64 = 20;
    store.commit(vec![key("shared", None)], note(0)).await.unwrap();
    let writer = async |store: Store, number: u64| {
        let mut revisions = Vec::new();
        for version in 0..EACH {
            let own = key(&format!("own-{number}"), (version > 0).then_some(version));
            let mut seen = store.find(Kind::Key, "shared").await.unwrap().unwrap().version;
            // As many others can come first as there are writes in all.
            for _ in 0..=WRITERS * EACH {
                let both = vec![own.clone(), key("shared", Some(seen))];
                match store.commit(both, note(number)).await {
                    Ok(revision) => {
                        revisions.push(revision);
                        break;
                    }
                    outcome => {
                        let (kind, id, version) = conflict(outcome);
                        assert_eq!((kind, &*id), (Kind::Key, "shared"));
                        assert!(version.unwrap() > seen);
                        seen = version.unwrap();
                    }
                }
            }
        }
        revisions
    };
    let tasks: Vec<_> =
        (0..WRITERS).map(|number| tokio::spawn(writer(Arc::clone(&store), number))).collect();
    let mut revisions = BTreeSet::new();
    for task in tasks {
        let its = task.await.unwrap();
        assert!(its.is_sorted() && its.len() as u64 == EACH);
        revisions.extend(its);
    }
    assert_eq!(revisions, (2..=1 + WRITERS * EACH).collect());
    assert_eq!(store.find(Kind::Key, "shared").await.unwrap().unwrap().version, 1 + WRITERS * EACH);
    assert_eq!(whole_history(&*store).await.len() as u64, 1 + 2 * WRITERS * EACH);
}

async fn whoever_waits_for_a_change_is_woken(store: Store) {
    store.commit(vec![key("one", None)], note(0)).await.unwrap();
    store.changed(0).await;
    for version in 1..20 {
        let revision = store.revision().await.unwrap();
        let mut waiting = store.changed(revision);
        assert!(poll_once(&mut waiting).is_pending());
        store.commit(vec![key("one", Some(version))], note(version)).await.unwrap();
        waiting.await;
    }
}

fn poll_once(future: &mut (impl Future<Output = ()> + Unpin)) -> Poll<()> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

async fn every_key_has_its_tag_once(store: Store) {
    assert_eq!(store.key_tags().await.unwrap(), (Vec::new(), 0));
    let ids: Vec<_> = (0..1_300).map(|n| format!("key-{n}")).collect();
    for some in ids.chunks(431) {
        let writes = some.iter().map(|id| key(id, None)).collect();
        store.commit(writes, note(0)).await.unwrap();
    }
    store.commit(vec![key("key-7", Some(1))], note(1)).await.unwrap();
    let account = Write { kind: Kind::Account, ..key("acme", None) };
    store.commit(vec![account], note(2)).await.unwrap();
    let (tags, revision) = store.key_tags().await.unwrap();
    assert_eq!((tags.len(), revision), (1_300, 6));
    let wanted: HashSet<_> = ids.iter().map(|id| Tag::of(id).short()).collect();
    assert_eq!(tags.into_iter().collect::<HashSet<_>>(), wanted);
}

async fn any_thread_may_ask(store: Store) {
    store.commit(vec![key("one", None)], note(0)).await.unwrap();
    let threads: Vec<_> = (0..4_u64)
        .map(|number| {
            let store = Arc::clone(&store);
            std::thread::spawn(move || {
                // As a worker of the data plane: one thread, and neither sockets nor timers.
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async {
                    store
                        .commit(vec![key(&format!("of-{number}"), None)], note(number))
                        .await
                        .unwrap();
                    store.changed(0).await;
                    store.find(Kind::Key, "one").await.unwrap().unwrap().version
                })
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap(), 1);
    }
    assert_eq!(store.revision().await.unwrap(), 5);
}
