-- +goose Up

-- The period tables log_chunks_0001, log_chunks_0002, ... are made as they are
-- needed. Instants are microseconds since 1970.
--   first_run, last_run  bounds of the runs in it, 0 for none
--   last_time            the newest line
--   bytes                what its rows take, about
--   dropping             1 when its rows count no more and it is being dropped
CREATE TABLE log_periods (
  number    INTEGER PRIMARY KEY,
  first_run INTEGER NOT NULL,
  last_run  INTEGER NOT NULL,
  last_time INTEGER NOT NULL,
  bytes     INTEGER NOT NULL,
  opened_at INTEGER NOT NULL,
  dropping  INTEGER NOT NULL DEFAULT 0
);
