-- Until when a root macaroon of the key may live that no row tells of any more.
-- The former release forgot rows of those that live without noting it.
-- +goose Up

ALTER TABLE root_keys ADD COLUMN unknown_until INTEGER NOT NULL DEFAULT 0;

UPDATE root_keys SET unknown_until = COALESCE((SELECT MAX(next_expires_at) FROM renewals WHERE root_key_id = root_keys.id), 0);
