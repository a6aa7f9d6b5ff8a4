-- Renewal, credentials of services, users of other backends, linking, delays,
-- tokens good for one use, and policies.
-- +goose Up

-- A root key outlives its user, and a service's has none: no reference to
-- users. Its epoch is the latest that minted under it.
CREATE TABLE root_keys_2 (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    user_id    TEXT    NOT NULL,
    epoch      INTEGER NOT NULL REFERENCES epochs (number),
    expires_at INTEGER NOT NULL
) STRICT;

INSERT INTO root_keys_2 (id, user_id, epoch, expires_at) SELECT id, user_id, epoch, expires_at FROM root_keys;

-- ttl: milliseconds that each root macaroon of the device lives.
-- started_at: the login from which the absolute limit counts.
-- proved_at: when a password or a recovery code was last shown from it.
-- root_expires_at: the latest root macaroon's own; 0 is not known.
CREATE TABLE devices_2 (
    id              TEXT    NOT NULL PRIMARY KEY,
    user_id         TEXT    NOT NULL REFERENCES users (id),
    name            TEXT    NOT NULL,
    install_id      TEXT    NOT NULL,
    root_key_id     BLOB    NOT NULL UNIQUE REFERENCES root_keys_2 (id),
    created_at      INTEGER NOT NULL,
    last_seen_at    INTEGER NOT NULL,
    revoked_at      INTEGER NOT NULL,
    revoked_reason  TEXT    NOT NULL,
    ttl             INTEGER NOT NULL DEFAULT 0,
    started_at      INTEGER NOT NULL DEFAULT 0,
    proved_at       INTEGER NOT NULL DEFAULT 0,
    root_expires_at INTEGER NOT NULL DEFAULT 0
) STRICT;

INSERT INTO devices_2 (id, user_id, name, install_id, root_key_id, created_at, last_seen_at, revoked_at, revoked_reason,
    ttl, started_at, proved_at, root_expires_at)
SELECT d.id, d.user_id, d.name, d.install_id, d.root_key_id, d.created_at, d.last_seen_at, d.revoked_at, d.revoked_reason,
    0, d.created_at, 0, k.expires_at
FROM devices d JOIN root_keys k ON k.id = d.root_key_id;

DROP TABLE devices;
DROP TABLE root_keys;
ALTER TABLE root_keys_2 RENAME TO root_keys;
ALTER TABLE devices_2 RENAME TO devices;

CREATE INDEX root_keys_user ON root_keys (user_id);
CREATE INDEX root_keys_epoch ON root_keys (epoch);
CREATE INDEX root_keys_expires ON root_keys (expires_at);
CREATE INDEX devices_user ON devices (user_id, revoked_at);
CREATE UNIQUE INDEX devices_install ON devices (user_id, install_id)
WHERE install_id <> '' AND revoked_at = 0;

-- A root macaroon that was renewed, and its one successor. Under one root key
-- they are told apart by their expiry, which only grows. next_epoch mints the
-- successor again. next_seen_at: when it was first seen in use.
CREATE TABLE renewals (
    root_key_id     BLOB    NOT NULL REFERENCES root_keys (id),
    expires_at      INTEGER NOT NULL,
    next_epoch      INTEGER NOT NULL,
    next_expires_at INTEGER NOT NULL,
    renewed_at      INTEGER NOT NULL,
    next_seen_at    INTEGER NOT NULL,
    PRIMARY KEY (root_key_id, expires_at)
) STRICT, WITHOUT ROWID;

-- owner: the service whose user this is, and subject that service's own id of
-- it; both empty for a local user. suspended_by: the owner, when it was the one
-- who did: it must not undo an administrator's.
ALTER TABLE users ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN subject TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN suspended_by TEXT NOT NULL DEFAULT '';
CREATE UNIQUE INDEX users_subject ON users (owner, subject) WHERE owner <> '';

-- Each secret of a service is a credential with a root key of its own: what was
-- minted with it dies with it. device_id stands in its tokens.
CREATE TABLE service_secrets_2 (
    id          TEXT    NOT NULL PRIMARY KEY,
    service_id  TEXT    NOT NULL REFERENCES services (id),
    hash        BLOB    NOT NULL CHECK (length(hash) = 32),
    device_id   TEXT    NOT NULL UNIQUE,
    root_key_id BLOB    NOT NULL UNIQUE CHECK (length(root_key_id) = 16),
    created_at  INTEGER NOT NULL
) STRICT;

INSERT INTO service_secrets_2 (id, service_id, hash, device_id, root_key_id, created_at)
SELECT 'sec_' || lower(hex(randomblob(8))), x.service_id, x.hash, 'dev_' || lower(hex(randomblob(8))), randomblob(16), s.created_at
FROM service_secrets x JOIN services s ON s.id = x.service_id;

DROP TABLE service_secrets;
ALTER TABLE service_secrets_2 RENAME TO service_secrets;
CREATE INDEX service_secrets_service ON service_secrets (service_id);

-- Points of chains that were accepted and may be accepted no more.
CREATE TABLE accepted (
    point      BLOB    NOT NULL PRIMARY KEY CHECK (length(point) = 32),
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX accepted_expires ON accepted (expires_at);

-- A second device on its way in, approved on the first. code and claim are
-- hashes; claim is empty until somebody gave the right code.
CREATE TABLE links (
    id            TEXT    NOT NULL PRIMARY KEY,
    user_id       TEXT    NOT NULL REFERENCES users (id),
    device_id     TEXT    NOT NULL,
    code          BLOB    NOT NULL CHECK (length(code) = 32),
    tries         INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL,
    claim         BLOB    NOT NULL CHECK (length(claim) IN (0, 32)),
    claim_name    TEXT    NOT NULL,
    claim_install TEXT    NOT NULL,
    claim_ip      TEXT    NOT NULL,
    approved_at   INTEGER NOT NULL
) STRICT;

CREATE INDEX links_user ON links (user_id);
CREATE INDEX links_expires ON links (expires_at);

-- What a device asked for without password or code: it may be had from due_at
-- on, unless some device of the user cancels it.
CREATE TABLE delayed (
    id         TEXT    NOT NULL PRIMARY KEY,
    user_id    TEXT    NOT NULL REFERENCES users (id),
    device_id  TEXT    NOT NULL,
    act        TEXT    NOT NULL,
    target     TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    UNIQUE (user_id, device_id, act, target)
) STRICT;

CREATE INDEX delayed_expires ON delayed (expires_at);

-- Caveats that hold for tokens already issued. target: a user's or a device's
-- id, or empty for everybody. expires_at 0 is until removed.
CREATE TABLE policies (
    id         TEXT    NOT NULL PRIMARY KEY,
    target     TEXT    NOT NULL,
    caveats    TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

-- grain 4: policy. It kills nothing: what verifiers know of the subject (a
-- user, a device, or empty for everybody) has changed. Its fingerprint is
-- random, so that each change is an entry of its own.
CREATE TABLE revocations_2 (
    seq         INTEGER NOT NULL PRIMARY KEY CHECK (seq > 0),
    grain       INTEGER NOT NULL,
    root_key_id BLOB    NOT NULL,
    fingerprint BLOB    NOT NULL,
    epoch       INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    subject     TEXT    NOT NULL DEFAULT '',
    UNIQUE (root_key_id, fingerprint, epoch),
    CHECK ((grain = 1 AND length(root_key_id) = 16 AND length(fingerprint) = 0 AND epoch = 0 AND subject = '')
        OR (grain = 2 AND length(root_key_id) = 16 AND length(fingerprint) = 16 AND epoch = 0 AND subject = '')
        OR (grain = 3 AND length(root_key_id) = 0 AND length(fingerprint) = 0 AND epoch > 0 AND subject = '')
        OR (grain = 4 AND length(root_key_id) = 0 AND length(fingerprint) = 16 AND epoch = 0))
) STRICT;

INSERT INTO revocations_2 (seq, grain, root_key_id, fingerprint, epoch, expires_at, subject)
SELECT seq, grain, root_key_id, fingerprint, epoch, expires_at, '' FROM revocations ORDER BY seq;

DROP TABLE revocations;
ALTER TABLE revocations_2 RENAME TO revocations;
CREATE INDEX revocations_expires ON revocations (expires_at);

-- The address in an audit entry is covered by a salted seal, so that it can be
-- erased and the chain stays whole. Entries without one are of the first form.
ALTER TABLE audit ADD COLUMN ip_salt BLOB NOT NULL DEFAULT x'';
ALTER TABLE audit ADD COLUMN ip_seal BLOB NOT NULL DEFAULT x'' CHECK (length(ip_seal) IN (0, 32));

-- For erasing a deleted user's addresses.
CREATE INDEX audit_user ON audit (user_id) WHERE user_id <> '';
CREATE INDEX audit_actor ON audit (actor) WHERE actor <> '' AND actor <> user_id;
