-- Fewer pages for what happens often: a renewal is one row and its audit entry,
-- and an accepted point is in one random place instead of two.
-- +goose Up

-- epoch and known_until are of the first root macaroon; of a later one since the
-- janitor looked last. The latest is in renewals, if there is any. (The new name
-- keeps a process of the former release, which took it for the last word, from
-- deleting what was renewed since.)
ALTER TABLE root_keys RENAME COLUMN expires_at TO known_until;
ALTER TABLE devices DROP COLUMN root_expires_at;

-- That a successor was renewed says that it was in use. Where it had died with its
-- epoch, and nobody used it, the former release wrote its replacement as a row
-- behind it: such rows become one, from the first one's to the last one's.
CREATE TABLE renewals_2 (
    root_key_id     BLOB    NOT NULL REFERENCES root_keys (id),
    expires_at      INTEGER NOT NULL,
    next_epoch      INTEGER NOT NULL,
    next_expires_at INTEGER NOT NULL,
    renewed_at      INTEGER NOT NULL,
    next_seen_at    INTEGER NOT NULL,
    PRIMARY KEY (root_key_id, expires_at)
) STRICT, WITHOUT ROWID;

INSERT INTO renewals_2 (root_key_id, expires_at, next_epoch, next_expires_at, renewed_at, next_seen_at)
WITH RECURSIVE run (root_key_id, first, renewed_at, step, next_epoch, next_expires_at, next_seen_at) AS (
    SELECT r.root_key_id, r.expires_at, r.renewed_at, 0, r.next_epoch, r.next_expires_at, r.next_seen_at
    FROM renewals r
    WHERE NOT EXISTS (SELECT 1 FROM renewals p
        WHERE p.root_key_id = r.root_key_id AND p.next_expires_at = r.expires_at AND p.next_seen_at = 0)
    UNION ALL
    SELECT run.root_key_id, run.first, run.renewed_at, run.step + 1, f.next_epoch, f.next_expires_at, f.next_seen_at
    FROM run JOIN renewals f ON f.root_key_id = run.root_key_id AND f.expires_at = run.next_expires_at
    WHERE run.next_seen_at = 0
)
SELECT root_key_id, first, next_epoch, next_expires_at, renewed_at, next_seen_at FROM run
WHERE step = (SELECT MAX(step) FROM run AS whole WHERE whole.root_key_id = run.root_key_id AND whole.first = run.first);

DROP TABLE renewals;
ALTER TABLE renewals_2 RENAME TO renewals;

-- Rows in the order they came, so that those which expire together lie together
-- in the index.
CREATE TABLE accepted_2 (
    number     INTEGER NOT NULL PRIMARY KEY,
    point      BLOB    NOT NULL UNIQUE CHECK (length(point) = 32),
    expires_at INTEGER NOT NULL
) STRICT;

INSERT INTO accepted_2 (point, expires_at) SELECT point, expires_at FROM accepted ORDER BY expires_at;
DROP TABLE accepted;
ALTER TABLE accepted_2 RENAME TO accepted;
CREATE INDEX accepted_expires ON accepted (expires_at);
