-- The janitor goes by what no root macaroon under a key outlives, be there a row
-- of it or not.
-- +goose Up

DROP INDEX root_keys_expires;
CREATE INDEX root_keys_until ON root_keys (MAX(known_until, unknown_until));
