-- A renewal is one row and its audit entry: what it says of the root key is not
-- written a second time.
-- +goose Up

-- root_keys.epoch and expires_at are of the first root macaroon; of a later one
-- since the janitor looked last. The latest is in renewals, if there is any.
ALTER TABLE devices DROP COLUMN root_expires_at;
