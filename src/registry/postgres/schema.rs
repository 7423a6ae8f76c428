//! The tables of the PostgreSQL registry, step by step from nothing.

/// What takes the tables from one format to the next, each with what it does: the first makes format 1. They are
/// never changed once they were released; what changes is added as another.
pub(super) const STEPS: &[(&str, &str)] = &[
    ("make the tables of records and their history", FIRST),
    ("make the table of what gateways tell each other", SECOND),
    ("make the table of how far growing numbers are reserved", THIRD),
];

/// The newest format.
pub(super) const FORMAT: i32 = 3;

// Names are bytes, so that they are compared as bytes under every collation, and so that any text can stand there;
// the view shows them to people. Nothing is ever deleted.
const FIRST: &str = "
CREATE SCHEMA IF NOT EXISTS countersign;
CREATE TABLE countersign.meta (
    one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    format INTEGER NOT NULL,
    revision BIGINT NOT NULL
);
CREATE TABLE countersign.record (
    kind TEXT COLLATE \"C\" NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    account BYTEA,
    application BYTEA,
    body BYTEA NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX record_by_account ON countersign.record (kind, account, id) WHERE account IS NOT NULL;
CREATE INDEX record_by_application ON countersign.record (kind, application, id) WHERE application IS NOT NULL;
CREATE TABLE countersign.history (
    revision BIGINT NOT NULL,
    place INTEGER NOT NULL,
    kind TEXT COLLATE \"C\" NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    account BYTEA,
    application BYTEA,
    body BYTEA NOT NULL,
    at BIGINT NOT NULL,
    actor BYTEA NOT NULL,
    action BYTEA NOT NULL,
    reason BYTEA,
    PRIMARY KEY (revision, place)
);
CREATE INDEX history_by_record ON countersign.history (kind, id, revision);
CREATE TABLE countersign.key_tag (tag BIGINT NOT NULL);
CREATE VIEW countersign.readable AS
    SELECT revision, place, to_timestamp(at / 1000000.0) AS at, encode(actor, 'escape') AS actor,
        encode(action, 'escape') AS action, encode(reason, 'escape') AS reason, kind, encode(id, 'escape') AS id,
        version, encode(account, 'escape') AS account, encode(application, 'escape') AS application,
        encode(body, 'escape') AS body
    FROM countersign.history;
INSERT INTO countersign.meta (format, revision) VALUES (0, 0);
";

// A batch of words takes its turn under the lock of the one row of `turn`: so whoever has read a turn has read all
// before it.
const SECOND: &str = "
CREATE TABLE countersign.turn (
    one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    last BIGINT NOT NULL
);
INSERT INTO countersign.turn (last) VALUES (0);
CREATE TABLE countersign.word (
    topic TEXT COLLATE \"C\" NOT NULL,
    id BYTEA NOT NULL,
    at BIGINT NOT NULL,
    detail BIGINT NOT NULL,
    turn BIGINT NOT NULL,
    PRIMARY KEY (topic, id)
);
CREATE INDEX word_by_turn ON countersign.word (topic, turn, id);
";

// A row changes every few seconds for as long as its key is used: half of a page is left for that.
const THIRD: &str = "
CREATE TABLE countersign.mark (
    mark BYTEA PRIMARY KEY,
    reserved BIGINT NOT NULL
) WITH (fillfactor = 50);
";
