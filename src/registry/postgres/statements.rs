//! Every statement that a connection is asked, prepared once.

use tokio_postgres::{Client, Error, Statement};

#[derive(Debug)]
pub(super) struct Statements {
    pub(super) revision: Statement,
    pub(super) find: Statement,
    pub(super) list: Statement,
    pub(super) list_account: Statement,
    pub(super) list_application: Statement,
    pub(super) list_both: Statement,
    pub(super) history: Statement,
    pub(super) since: Statement,
    pub(super) of_revision: Statement,
    pub(super) standing: Statement,
    pub(super) write: Statement,
    pub(super) holders: Statement,
    pub(super) tell: Statement,
    pub(super) forget: Statement,
    pub(super) told: Statement,
    pub(super) told_of: Statement,
    pub(super) unsay: Statement,
    pub(super) reserve: Statement,
    pub(super) reserved: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        let list = |filter: &str| {
            format!(
                "SELECT id, version, revision, account, application, body FROM countersign.record \
                 WHERE kind = $1 AND id >= $2{filter} ORDER BY id LIMIT $3"
            )
        };
        let account = list(" AND account = $4");
        let application = list(" AND application = $4");
        let both = list(" AND account = $4 AND application = $5");
        let plain = list("");
        let (revision, find, list, list_account, list_application, list_both) = tokio::try_join!(
            client.prepare(REVISION),
            client.prepare(FIND),
            client.prepare(&plain),
            client.prepare(&account),
            client.prepare(&application),
            client.prepare(&both),
        )?;
        let (history, since, of_revision, standing, write) = tokio::try_join!(
            client.prepare(HISTORY),
            client.prepare(SINCE),
            client.prepare(OF_REVISION),
            client.prepare(STANDING),
            client.prepare(WRITE),
        )?;
        let (reserve, reserved) =
            tokio::try_join!(client.prepare(RESERVE), client.prepare(RESERVED))?;
        let (holders, tell, forget, told, told_of, unsay) = tokio::try_join!(
            client.prepare(HOLDERS),
            client.prepare(TELL),
            client.prepare(FORGET),
            client.prepare(TOLD),
            client.prepare(TOLD_OF),
            client.prepare(UNSAY),
        )?;
        Ok(Self {
            revision,
            find,
            list,
            list_account,
            list_application,
            list_both,
            history,
            since,
            of_revision,
            standing,
            write,
            holders,
            tell,
            forget,
            told,
            told_of,
            unsay,
            reserve,
            reserved,
        })
    }
}

/// Begins a transaction that no other can write beside: revisions are given in the order of commits, without gaps.
pub(super) const BEGIN: &str =
    "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT revision FROM countersign.meta FOR UPDATE";

pub(super) const KEY_TAGS: &str = "SELECT revision, \
     (SELECT string_agg(int8send(tag), ''::bytea) FROM countersign.key_tag) FROM countersign.meta";

pub(super) const COUNTS: &str = "SELECT kind, count(*) FROM countersign.record GROUP BY kind";

const REVISION: &str = "SELECT revision FROM countersign.meta";

const FIND: &str = "SELECT id, version, revision, account, application, body FROM countersign.record \
     WHERE kind = $1 AND id = $2";

const HISTORY: &str = "SELECT id, version, revision, account, application, body, kind, at, actor, action, reason \
     FROM countersign.history WHERE kind = $1 AND id = $2 AND revision < $3 ORDER BY revision DESC LIMIT $4";

const SINCE: &str = "SELECT id, version, revision, account, application, body, kind, at, actor, action, reason \
     FROM countersign.history WHERE revision > $1 ORDER BY revision, place LIMIT $2";

const OF_REVISION: &str = "SELECT id, version, revision, account, application, body, kind, at, actor, action, reason \
     FROM countersign.history WHERE revision = $1 ORDER BY place";

const STANDING: &str = "SELECT kind, id, version FROM countersign.record \
     JOIN unnest($1::text[], $2::bytea[]) AS named (kind, id) USING (kind, id)";

const WRITE: &str = "
WITH written AS (
    SELECT * FROM unnest($2::int8[], $3::int4[], $4::text[], $5::bytea[], $6::int8[], $7::bytea[], $8::bytea[],
        $9::bytea[], $10::int8[], $11::bytea[], $12::bytea[], $13::bytea[], $14::bool[], $15::int8[])
    AS written (revision, place, kind, id, version, account, application, body, at, actor, action, reason, stands, tag)
), past AS (
    INSERT INTO countersign.history
        (revision, place, kind, id, version, account, application, body, at, actor, action, reason)
    SELECT revision, place, kind, id, version, account, application, body, at, actor, action, reason FROM written
), tags AS (
    INSERT INTO countersign.key_tag (tag) SELECT tag FROM written WHERE tag IS NOT NULL
), now AS (
    UPDATE countersign.meta SET revision = $1
)
INSERT INTO countersign.record (kind, id, version, revision, account, application, body)
SELECT kind, id, version, revision, account, application, body FROM written WHERE stands
ON CONFLICT (kind, id) DO UPDATE SET version = EXCLUDED.version, revision = EXCLUDED.revision,
    account = EXCLUDED.account, application = EXCLUDED.application, body = EXCLUDED.body";

// From one account to the next by the index, however many keys each has.
const HOLDERS: &str = "
WITH RECURSIVE holder AS (
    (SELECT account FROM countersign.record WHERE kind = 'key' AND account > $1 ORDER BY account LIMIT 1)
    UNION ALL
    SELECT (SELECT account FROM countersign.record WHERE kind = 'key' AND account > holder.account
        ORDER BY account LIMIT 1)
    FROM holder WHERE holder.account IS NOT NULL
)
SELECT account FROM holder WHERE account IS NOT NULL LIMIT $2";

const TELL: &str = "
WITH turn AS (
    UPDATE countersign.turn SET last = last + 1 RETURNING last
)
INSERT INTO countersign.word (topic, id, at, detail, turn)
SELECT $1, come.id, come.at, come.detail, turn.last
FROM unnest($2::bytea[], $3::int8[], $4::int8[]) AS come (id, at, detail), turn
WHERE $5::int8 IS NULL OR (SELECT count(*) FROM countersign.word WHERE topic = $1) < $5
ON CONFLICT (topic, id) DO UPDATE SET at = EXCLUDED.at, detail = EXCLUDED.detail, turn = EXCLUDED.turn
    WHERE word.at < EXCLUDED.at";

const FORGET: &str = "DELETE FROM countersign.word WHERE topic = $1 AND at < $2";

const TOLD: &str = "SELECT turn, id, at, detail FROM countersign.word \
     WHERE topic = $1 AND (turn, id) > ($2, $3) ORDER BY turn, id LIMIT $4";

const TOLD_OF: &str =
    "SELECT id, at, detail FROM countersign.word WHERE topic = $1 AND id = ANY ($2::bytea[])";

const UNSAY: &str = "DELETE FROM countersign.word WHERE topic = $1 AND id = $2";

// Nothing comes back where enough is reserved already.
const RESERVE: &str = "
INSERT INTO countersign.mark AS held (mark, reserved) VALUES ($1, $3)
ON CONFLICT (mark) DO UPDATE SET reserved = GREATEST(held.reserved, EXCLUDED.reserved) WHERE held.reserved < $2
RETURNING reserved";

const RESERVED: &str = "SELECT reserved FROM countersign.mark WHERE mark = $1";
