-- +goose Up

-- The version that a rollback made this one from, 0 for one that came by itself.
ALTER TABLE versions ADD COLUMN restores INTEGER NOT NULL DEFAULT 0;
