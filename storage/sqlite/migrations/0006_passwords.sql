-- Who has a password, in the order of ids: users without one may be many.
-- +goose Up

CREATE INDEX users_password ON users (id) WHERE password_hash <> '';
