-- Fewer pages for what happens often: a renewal is one row and its audit entry,
-- and an accepted point is in one random place instead of two.
-- +goose Up

-- root_keys.epoch and expires_at are of the first root macaroon; of a later one
-- since the janitor looked last. The latest is in renewals, if there is any.
ALTER TABLE devices DROP COLUMN root_expires_at;

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
