-- A user's addresses in the audit are sealed under a key in the user's row, and so
-- go with it, wherever they stand. A renewal wrote more pages of the indexes by
-- which they were found than of anything else.
-- +goose Up

ALTER TABLE users ADD COLUMN address_key BLOB NOT NULL DEFAULT x'' CHECK (length(address_key) IN (0, 32));
UPDATE users SET address_key = randomblob(32);

-- ip_box: the salt of ip_seal and the address, sealed under the user's address_key;
-- client_ip and ip_salt are empty then.
ALTER TABLE audit ADD COLUMN ip_box BLOB NOT NULL DEFAULT x'';

-- For the entries of the former release, which have a user's address as it is.
DROP INDEX audit_user;
DROP INDEX audit_actor;
CREATE INDEX audit_user ON audit (user_id) WHERE user_id <> '' AND actor IN ('', user_id) AND client_ip <> '';
CREATE INDEX audit_actor ON audit (actor) WHERE actor <> '' AND actor <> user_id AND client_ip <> '';

-- How many rows the root key had with this one when it was written, or more, so
-- that they need not be counted each time. What was written before counts as many.
ALTER TABLE renewals ADD COLUMN rows INTEGER NOT NULL DEFAULT 64;
