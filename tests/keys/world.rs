//! A cache that follows a registry in memory, under a clock that the test sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign::admit::Switches;
use countersign::clock::{Clock, ManualClock, Micros};
use countersign::key::{
    Algorithm, Allowlist, Bindings, Key, PermissionNames, Secret, State, Tag, Venue,
};
use countersign::registry::book::{Kind, Record};
use countersign::registry::cache::{Counts, KeyCache};
use countersign::registry::feed::{Follower, News, OpenKey};
use countersign::registry::fixed::FixedKeys;
use countersign::registry::records::{
    AccountRecord, ApplicationRecord, KeyRecord, Life, SecretMaterial, SecretRecord, SwitchRecord,
};
use countersign::registry::{Keys, Unavailable};

use crate::book::Book;

pub(crate) const START: Micros = Micros(1_760_000_000_000_000);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// Longer than any test runs by any clock.
pub(crate) const AGES: Duration = Duration::from_hours(24);

/// What a key's record says at first.
pub(crate) fn record(account: &str) -> KeyRecord {
    KeyRecord {
        format: 1,
        account: account.into(),
        application: None,
        label: String::new(),
        venue: "main".into(),
        dialect: "binance".into(),
        algorithm: "hmac-sha256".into(),
        secrets: vec![SecretRecord {
            number: 1,
            material: SecretMaterial::Public(SECRET.into()),
            created: START,
            until: None,
        }],
        passphrase: None,
        permissions: vec!["read".into(), "trade".into(), "withdraw".into()],
        allowlist: vec![],
        routes: vec![],
        symbols: vec![],
        limits: vec![],
        state: Life::Active,
        created: START,
        expires: None,
        trade_until: None,
        epoch: 1,
    }
}

/// Makes keys of such records: a public text stands for the secret, so that no test needs a master key.
pub(crate) fn open_key() -> OpenKey {
    Arc::new(|key, account, application, _| {
        let says: KeyRecord = read(key)?;
        let account: Option<AccountRecord> = account.map(read).transpose()?;
        let application: Option<ApplicationRecord> = application.map(read).transpose()?;
        let names = PermissionNames::default();
        let state = match says.state {
            Life::Revoked => State::Revoked,
            Life::Suspended => State::Suspended,
            Life::Active if account.is_some_and(|account| account.frozen) => State::Frozen,
            Life::Active if application.as_ref().is_some_and(|it| is_lost(it, says.created)) => {
                State::Stopped
            }
            Life::Active => State::Active,
        };
        let secret = says.secrets.first().ok_or("no secret")?;
        let SecretMaterial::Public(text) = &secret.material else { return Err("sealed".into()) };
        Ok(Key {
            id: (*key.id).into(),
            tag: Tag::of(&key.id),
            account: (*says.account).into(),
            account_tag: Tag::of(&says.account),
            venue: Venue((*says.venue).into()),
            dialect: (*says.dialect).into(),
            secret: Secret::read(Algorithm::HmacSha256, text.as_bytes())
                .map_err(|e| e.to_string())?
                .numbered(secret.number),
            passphrase: None,
            permissions: says.permissions.iter().filter_map(|name| names.find(name)).collect(),
            allowlist: Allowlist::default(),
            state,
            expires: says.expires,
            limits: Arc::from([]),
            epoch: says.epoch,
            bindings: says.application.map(|name| {
                Box::new(Bindings { application: Some(name.into()), ..Bindings::default() })
            }),
        })
    })
}

fn is_lost(application: &ApplicationRecord, created: Micros) -> bool {
    application.stopped || application.compromised.is_some_and(|lost| created <= lost)
}

fn read<T: serde::de::DeserializeOwned>(record: &Record) -> Result<T, String> {
    serde_json::from_slice(&record.body).map_err(|error| error.to_string())
}

pub(crate) fn json(says: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(says).unwrap()
}

impl Book {
    pub(crate) fn put_key(&self, id: &str, says: &KeyRecord) -> u64 {
        let application = says.application.as_deref();
        self.put(Kind::Key, id, (&says.account, application), json(says))
    }

    pub(crate) fn set_state(&self, id: &str, state: Life) -> u64 {
        self.put_key(id, &KeyRecord { state, epoch: 2, ..record("a") })
    }

    pub(crate) fn freeze(&self, account: &str, frozen: bool) {
        let says = AccountRecord { frozen, reason: None, epoch: 0 };
        self.put(Kind::Account, account, (account, None), json(&says));
    }

    pub(crate) fn throw(&self, name: &str, thrown: bool) {
        let says = SwitchRecord { thrown, reason: None };
        self.put(Kind::Switch, name, ("", None), json(&says));
    }
}

/// A cache of a registry's keys and its follower, which runs beside the test.
pub(crate) struct World {
    pub(crate) book: Arc<Book>,
    pub(crate) keys: KeyCache,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) switches: Arc<Switches>,
    pub(crate) cuts: Arc<AtomicUsize>,
    follower: tokio::task::JoinHandle<()>,
}

impl World {
    /// Over a registry; the cache has confirmed what it knows once, and knows which ids there are.
    pub(crate) async fn over(book: Book) -> Self {
        let world = Self::begin(book, FixedKeys::default());
        world.until(|counts| counts.age.is_some() && counts.known.is_some()).await;
        world
    }

    pub(crate) fn begin(book: Book, fixed: FixedKeys) -> Self {
        let book = Arc::new(book);
        let clock = Arc::new(ManualClock::at(START));
        let (keys, end) = KeyCache::over(fixed, 1_000, Arc::<ManualClock>::clone(&clock));
        let switches = Arc::<Switches>::default();
        let cuts = Arc::<AtomicUsize>::default();
        let told = Arc::clone(&cuts);
        let tell = Box::new(move |news: News<'_>| {
            told.fetch_add(usize::from(matches!(news, News::Ended)), Ordering::SeqCst);
        });
        let registry = Arc::<Book>::clone(&book);
        let names = Arc::<PermissionNames>::default();
        let follower = Follower::new(end, registry, open_key(), Arc::clone(&switches), names, tell);
        let follower = tokio::spawn(follower.run());
        Self { book, keys, clock, switches, cuts, follower }
    }

    pub(crate) async fn find(&self, id: &str) -> Result<Option<Arc<Key>>, Unavailable> {
        self.keys.find(id, AGES).await
    }

    pub(crate) async fn state(&self, id: &str) -> Option<State> {
        self.find(id).await.unwrap().map(|key| key.state)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.keys.counts().unwrap()
    }

    pub(crate) fn finds(&self) -> usize {
        self.book.finds.load(Ordering::SeqCst)
    }

    /// Returns once `holds` does.
    pub(crate) async fn until(&self, holds: impl Fn(Counts) -> bool) {
        let wait = async {
            while !holds(self.counts()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it comes about");
    }

    /// Returns once everything up to `revision` is applied.
    pub(crate) async fn applied(&self, revision: u64) {
        self.until(|counts| counts.revision >= revision).await;
    }

    /// Nothing is confirmed any more, but lookups go on.
    pub(crate) fn stop_following(&self) {
        self.follower.abort();
    }

    pub(crate) fn set_time(&self, after: Duration) {
        self.clock.set(START + after);
        assert_eq!(self.clock.now(), START + after);
    }
}
