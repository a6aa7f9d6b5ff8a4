-- Times are Unix milliseconds, UTC; 0 is "never". Lists are JSON arrays of text.
-- +goose Up

-- One row: what must move in step with the changes it counts.
CREATE TABLE state (
    id         INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    generation TEXT    NOT NULL CHECK (length(generation) IN (0, 22)),
    sequence   INTEGER NOT NULL CHECK (sequence >= 0),
    revision   INTEGER NOT NULL CHECK (revision >= 0),
    last_epoch INTEGER NOT NULL CHECK (last_epoch BETWEEN 0 AND 4294967295),
    audit_seq  INTEGER NOT NULL CHECK (audit_seq >= 0),
    audit_hash BLOB    NOT NULL CHECK (length(audit_hash) = 32)
) STRICT;

INSERT INTO state (id, generation, sequence, revision, last_epoch, audit_seq, audit_hash)
VALUES (1, '', 0, 0, 0, 0, x'0000000000000000000000000000000000000000000000000000000000000000');

CREATE TABLE users (
    id            TEXT    NOT NULL PRIMARY KEY,
    name          TEXT    NOT NULL,
    name_key      TEXT    NOT NULL UNIQUE,
    password_hash TEXT    NOT NULL,
    role          TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    suspended_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE recovery_codes (
    user_id TEXT NOT NULL REFERENCES users (id),
    hash    BLOB NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (user_id, hash)
) STRICT;

CREATE TABLE epochs (
    number     INTEGER NOT NULL PRIMARY KEY CHECK (number BETWEEN 1 AND 4294967295),
    sealed     BLOB    NOT NULL,
    state      INTEGER NOT NULL CHECK (state IN (1, 2, 3)),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    CHECK (state <> 3 OR length(sealed) = 0)
) STRICT;

-- At most one epoch signs.
CREATE UNIQUE INDEX epochs_signing ON epochs (state) WHERE state = 1;

-- Outlives its device: a row goes when its last token has.
CREATE TABLE root_keys (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    user_id    TEXT    NOT NULL REFERENCES users (id),
    epoch      INTEGER NOT NULL REFERENCES epochs (number),
    expires_at INTEGER NOT NULL
) STRICT;

CREATE INDEX root_keys_user ON root_keys (user_id);
CREATE INDEX root_keys_epoch ON root_keys (epoch);
CREATE INDEX root_keys_expires ON root_keys (expires_at);

CREATE TABLE devices (
    id             TEXT    NOT NULL PRIMARY KEY,
    user_id        TEXT    NOT NULL REFERENCES users (id),
    name           TEXT    NOT NULL,
    install_id     TEXT    NOT NULL,
    root_key_id    BLOB    NOT NULL UNIQUE REFERENCES root_keys (id),
    created_at     INTEGER NOT NULL,
    last_seen_at   INTEGER NOT NULL,
    revoked_at     INTEGER NOT NULL,
    revoked_reason TEXT    NOT NULL
) STRICT;

CREATE INDEX devices_user ON devices (user_id, revoked_at);
CREATE UNIQUE INDEX devices_install ON devices (user_id, install_id)
WHERE install_id <> '' AND revoked_at = 0;

-- grain 1: device, 2: branch, 3: epoch. What a grain does not have is empty or
-- 0, so that one index says whether something is on the list.
CREATE TABLE revocations (
    seq         INTEGER NOT NULL PRIMARY KEY CHECK (seq > 0),
    grain       INTEGER NOT NULL,
    root_key_id BLOB    NOT NULL,
    fingerprint BLOB    NOT NULL,
    epoch       INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    UNIQUE (root_key_id, fingerprint, epoch),
    CHECK ((grain = 1 AND length(root_key_id) = 16 AND length(fingerprint) = 0 AND epoch = 0)
        OR (grain = 2 AND length(root_key_id) = 16 AND length(fingerprint) = 16 AND epoch = 0)
        OR (grain = 3 AND length(root_key_id) = 0 AND length(fingerprint) = 0 AND epoch > 0))
) STRICT;

CREATE INDEX revocations_expires ON revocations (expires_at);

CREATE TABLE services (
    id         TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,
    serves     TEXT    NOT NULL,
    calls      TEXT    NOT NULL,
    actions    TEXT    NOT NULL,
    rights     TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE service_secrets (
    service_id TEXT    NOT NULL REFERENCES services (id),
    position   INTEGER NOT NULL,
    hash       BLOB    NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (service_id, position)
) STRICT;

CREATE TABLE audit (
    seq         INTEGER NOT NULL PRIMARY KEY CHECK (seq > 0),
    time        INTEGER NOT NULL,
    type        TEXT    NOT NULL,
    actor       TEXT    NOT NULL,
    user_id     TEXT    NOT NULL,
    device_id   TEXT    NOT NULL,
    root_key_id BLOB    NOT NULL CHECK (length(root_key_id) IN (0, 16)),
    client_ip   TEXT    NOT NULL,
    detail      TEXT    NOT NULL,
    prev        BLOB    NOT NULL CHECK (length(prev) = 32),
    hash        BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;
