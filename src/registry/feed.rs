//! Defeats a revocation that some gateway never hears of: follows every change of the registry in order, and says up to
//! when nothing was missed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::book::{Change, Kind, Query, Record, Registry, RegistryError};
use super::cache::Unfollowed;
use super::flights::Wanted;
use super::live::LOOKUP_DEADLINE;
use super::looker::{Looker, learn};
use super::records::{AccountRecord, Life, SwitchRecord};
use crate::admit::Switches;
use crate::key::{Key, KeyId, PermissionNames, Permissions, State, Tag};

pub use super::looker::OpenKey;
pub use super::news::{News, Tell};

/// Follows a registry, on the control plane: applies what changes, and looks up what the workers want.
pub struct Follower {
    looker: Looker,
    wanted: mpsc::UnboundedReceiver<Wanted>,
    feed: Feed,
}

/// Applies what changes.
struct Feed {
    looker: Looker,
    switches: Arc<Switches>,
    names: Arc<PermissionNames>,
    tell: Tell,
    /// The switches that are thrown, by name.
    thrown: BTreeSet<String>,
    /// Up to where everything is applied; `None` before anything is known.
    place: Option<Place>,
    failing: bool,
}

/// A place in the history.
#[derive(Clone, Copy, Debug)]
struct Place {
    revision: u64,
    /// A digest of the changes of that revision, once they were seen: after a restored backup others stand there.
    print: Option<u64>,
    /// How many changes those are.
    rows: usize,
}

/// Why the registry is not followed.
#[derive(Debug)]
enum Lapse {
    /// It did not answer.
    Registry(RegistryError),
    /// It did not answer in time.
    Late,
    /// It is not what it was: changes are gone that were applied, or changes are missing.
    Rewritten(String),
}

impl Follower {
    /// A follower of `registry` for the cache at the other end of `unfollowed`. `names` are those that records use, and
    /// `tell` must not block.
    pub fn new(
        unfollowed: Unfollowed,
        registry: Arc<dyn Registry>,
        open: OpenKey,
        switches: Arc<Switches>,
        names: Arc<PermissionNames>,
        tell: Tell,
    ) -> Self {
        let Unfollowed { live, wanted } = unfollowed;
        let looker = Looker { live, registry, open };
        let feed = Feed {
            looker: looker.clone(),
            switches,
            names,
            tell,
            thrown: BTreeSet::new(),
            place: None,
            failing: false,
        };
        Self { looker, wanted, feed }
    }

    /// Follows for ever. It needs a tokio runtime with time.
    pub async fn run(self) {
        let Self { looker, mut wanted, mut feed } = self;
        let look = async {
            while let Some(wanted) = wanted.recv().await {
                tokio::spawn(looker.clone().seek(wanted));
            }
        };
        tokio::join!(look, feed.follow());
    }
}

impl Feed {
    async fn follow(&mut self) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            match self.step().await {
                Ok(()) => {
                    self.looker.live.set_reached(true);
                    if std::mem::take(&mut self.failing) {
                        tracing::info!("the registry answers again");
                    }
                    pause = SHORTEST_PAUSE;
                    let revision = self.place.map_or(0, |place| place.revision);
                    let changed = self.looker.registry.changed(revision);
                    // Late or not, what follows is to ask.
                    let _ = timeout(LOOK_EVERY, changed).await;
                    sleep(LEAST_PAUSE).await;
                }
                Err(lapse) => {
                    self.lapse(lapse);
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Applies everything that has changed since the last time.
    async fn step(&mut self) -> Result<(), Lapse> {
        let place = match self.place {
            Some(place) => place,
            None => self.begin().await?,
        };
        while !self.apply_next(self.place.unwrap_or(place)).await? {}
        Ok(())
    }

    fn lapse(&mut self, lapse: Lapse) {
        let why = match lapse {
            Lapse::Rewritten(why) => {
                tracing::error!(
                    why,
                    "the registry is not what it was, as after a backup was restored: every key is forgotten, and \
                     asked for anew; revocations made since that backup are gone and must be made again"
                );
                self.place = None;
                self.looker.live.forget();
                self.looker.live.set_reached(false);
                return;
            }
            Lapse::Registry(error) => error.to_string(),
            Lapse::Late => "it does not answer in time".into(),
        };
        self.looker.live.set_reached(false);
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(
                why,
                "the registry cannot be followed; keys are refused once what is known is too old"
            );
        }
    }

    /// Finds the place to follow from, and has the ids read meanwhile.
    async fn begin(&mut self) -> Result<Place, Lapse> {
        let registry = Arc::clone(&self.looker.registry);
        let revision = in_time(registry.revision()).await?;
        self.thrown.clear();
        self.read_all(Kind::Switch).await?;
        self.read_all(Kind::Ban).await?;
        self.set_switches();
        let place = Place { revision, print: None, rows: 0 };
        // What was looked up before that revision, or is being looked up, may be older.
        self.looker.live.forget();
        self.place = Some(place);
        tokio::spawn(learn(Arc::clone(&self.looker.live), registry, revision));
        Ok(place)
    }

    /// Applies what stands in the records of a kind.
    async fn read_all(&mut self, kind: Kind) -> Result<(), Lapse> {
        let registry = Arc::clone(&self.looker.registry);
        let mut query = Query { kind, account: None, application: None, after: None, limit: PAGE };
        loop {
            let page = in_time(registry.list(query.clone())).await?;
            query.after = page.last().map(|record| record.id.clone());
            for record in &page {
                if kind == Kind::Switch {
                    self.throw(record);
                } else {
                    (self.tell)(News::Ban(record));
                }
            }
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }

    /// Applies a batch, and answers whether nothing was left then.
    async fn apply_next(&mut self, place: Place) -> Result<bool, Lapse> {
        let asked = self.looker.live.now();
        // The last revision is read again, to see that it is still there.
        let limit = BATCH + place.rows;
        let since = self.looker.registry.since(place.revision.saturating_sub(1), limit);
        let changes = in_time(since).await?;
        let is_all = changes.len() < limit;
        let known = changes.iter().take_while(|change| change.record.revision <= place.revision);
        let (known, new) = changes.split_at_checked(known.count()).unwrap_or((&changes, &[]));
        if place.revision > 0 && place.print.is_none_or(|print| print != print_of(known)) {
            if known.is_empty() || place.print.is_some() {
                return Err(Lapse::Rewritten(format!("revision {} has changed", place.revision)));
            }
            self.place = Some(Place { print: Some(print_of(known)), rows: known.len(), ..place });
        }
        let mut last = place.revision;
        for change in new {
            if change.record.revision > last + 1 {
                return Err(Lapse::Rewritten(format!("there is no revision {}", last + 1)));
            }
            last = change.record.revision;
        }
        self.apply(new).await;
        if let Some(change) = new.last() {
            let revision = change.record.revision;
            let before = new.iter().take_while(|change| change.record.revision < revision).count();
            let latest = new.get(before..).unwrap_or_default();
            let print = Some(print_of(latest));
            self.place = Some(Place { revision, print, rows: latest.len() });
        }
        if is_all {
            self.looker.live.confirm(asked, last);
            (self.tell)(News::Reached(last));
        }
        Ok(is_all)
    }

    async fn apply(&mut self, changes: &[Change]) {
        let live = Arc::clone(&self.looker.live);
        let mut ended = Vec::new();
        let mut accounts = HashMap::new();
        let mut applications = HashSet::new();
        for Change { record, .. } in changes {
            match record.kind {
                Kind::Key => {
                    let tag = Tag::of(&record.id);
                    live.filter.insert(tag.short());
                    (self.tell)(News::Key(record));
                    let keys = live.take(&KeyId::from(&*record.id), tag);
                    let (over, rest) =
                        if is_active(record) { (vec![], keys) } else { (keys, vec![]) };
                    ended.extend(over);
                    for key in rest {
                        live.cast_off(key);
                    }
                }
                Kind::Account => {
                    (self.tell)(News::Holder(record));
                    accounts.insert(&*record.id, is_frozen(record));
                }
                Kind::Application => {
                    (self.tell)(News::Holder(record));
                    applications.insert(&*record.id);
                }
                Kind::Switch => self.throw(record),
                Kind::Factor => drop(accounts.entry(&*record.id).or_insert(false)),
                Kind::Ban => (self.tell)(News::Ban(record)),
                Kind::Approval | Kind::Own => {}
            }
        }
        self.set_switches();
        let touched = if accounts.is_empty() && applications.is_empty() {
            Vec::new()
        } else {
            live.take_all(|key| {
                let application = key.bindings.as_ref().and_then(|all| all.application.as_deref());
                let of_one = application.is_some_and(|name| applications.contains(name));
                of_one || accounts.contains_key(&*key.account)
            })
        };
        live.negatives.lapse();
        let is_frozen = |key: &Arc<Key>| accounts.get(&*key.account) == Some(&true);
        let (frozen, in_doubt): (Vec<_>, Vec<_>) = touched.into_iter().partition(is_frozen);
        ended.extend(frozen);
        self.end(ended);
        let now = live.now();
        for change in changes {
            (self.tell)(News::Applied(now.since(change.note.at)));
        }
        self.settle(in_doubt).await;
    }

    /// Which keys an application has lost hangs on when they were made: those in use are looked up.
    async fn settle(&self, in_doubt: Vec<Arc<Key>>) {
        let due = Instant::now() + LOOKUP_DEADLINE;
        let mut ended = Vec::new();
        for key in in_doubt {
            let now = timeout_at(due, self.looker.load(&key.id)).await;
            if matches!(now, Ok(Ok(Some(now))) if now.state == State::Active) {
                self.looker.live.cast_off(key);
            } else {
                ended.push(key);
            }
        }
        self.end(ended);
    }

    fn end(&self, keys: Vec<Arc<Key>>) {
        if !keys.is_empty() {
            for key in keys {
                self.looker.live.endings.add(key);
            }
            (self.tell)(News::Ended);
        }
    }

    fn throw(&mut self, record: &Record) {
        // What cannot be read is not taken for harmless.
        let thrown = serde_json::from_slice::<SwitchRecord>(&record.body);
        if thrown.map_or(true, |record| record.thrown) {
            self.thrown.insert(record.id.clone());
        } else {
            self.thrown.remove(&record.id);
        }
    }

    fn set_switches(&self) {
        let mut stopped = Permissions::NONE;
        for name in &self.thrown {
            match self.names.find(name) {
                _ if name == "all" => stopped = Permissions::ALL,
                Some(permission) => stopped = stopped.with(permission),
                None => tracing::warn!(
                    name,
                    "a switch is thrown for a permission that no route asks for"
                ),
            }
        }
        if self.switches.stopped() != stopped {
            self.switches.set(stopped);
            (self.tell)(News::Switched);
        }
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, RegistryError>>) -> Result<T, Lapse> {
    timeout(FEED_DEADLINE, answer).await.map_err(|_| Lapse::Late)?.map_err(Lapse::Registry)
}

fn print_of(changes: &[Change]) -> u64 {
    changes.iter().fold(START, print_and)
}

fn print_and(print: u64, Change { record, note }: &Change) -> u64 {
    let Record { kind, id, version, revision, account, application, body } = record;
    let what = (kind.name(), id, version, revision, account, application, body);
    FixedState::with_seed(print).hash_one((what, note.at, &note.actor))
}

#[derive(Deserialize)]
struct Alive {
    state: Life,
}

fn is_active(record: &Record) -> bool {
    serde_json::from_slice(&record.body).is_ok_and(|Alive { state }| state == Life::Active)
}

fn is_frozen(record: &Record) -> bool {
    serde_json::from_slice::<AccountRecord>(&record.body).map_or(true, |account| account.frozen)
}

const START: u64 = 0;
/// Changes that are read at a time.
const BATCH: usize = 1_000;
const PAGE: usize = 1_000;
/// How often it is asked whether anything has changed, where nothing says so.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const FEED_DEADLINE: Duration = Duration::from_secs(1);
/// So that hints in a row do not keep it asking.
const LEAST_PAUSE: Duration = Duration::from_millis(2);
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("place", &self.feed.place).finish_non_exhaustive()
    }
}
