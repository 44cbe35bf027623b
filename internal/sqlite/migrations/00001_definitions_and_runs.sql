-- +goose Up

-- The revision counts every change of a definition.
CREATE TABLE revision (last INTEGER NOT NULL);
INSERT INTO revision VALUES (0);

-- Instants are microseconds since 1970.
CREATE TABLE apps (
  id          INTEGER PRIMARY KEY,
  name        TEXT NOT NULL UNIQUE,
  description TEXT NOT NULL,
  annotations TEXT, -- JSON object, NULL for none
  created_at  INTEGER NOT NULL,
  updated_at  INTEGER NOT NULL
);

CREATE TABLE functions (
  id          INTEGER PRIMARY KEY,
  app_id      INTEGER NOT NULL,
  name        TEXT NOT NULL,
  description TEXT NOT NULL,
  annotations TEXT,
  version     INTEGER NOT NULL, -- the one that is called
  versions    INTEGER NOT NULL, -- how many numbers were given
  revision    INTEGER NOT NULL,
  created_at  INTEGER NOT NULL,
  updated_at  INTEGER NOT NULL,
  UNIQUE (app_id, name)
);
CREATE UNIQUE INDEX functions_revision ON functions (revision);

CREATE TABLE versions (
  function_id INTEGER NOT NULL,
  number      INTEGER NOT NULL,
  image       TEXT NOT NULL,
  env         TEXT, -- JSON object, NULL for none
  spec        TEXT NOT NULL, -- JSON, all but image and env
  digest      TEXT NOT NULL,
  created_at  INTEGER NOT NULL,
  created_by  TEXT NOT NULL,
  PRIMARY KEY (function_id, number)
) WITHOUT ROWID;

-- What was deleted, so that a follower of changes learns of it.
CREATE TABLE deleted_functions (
  revision    INTEGER PRIMARY KEY,
  function_id INTEGER NOT NULL,
  app_id      INTEGER NOT NULL,
  app         TEXT NOT NULL,
  name        TEXT NOT NULL
);

-- Functions that ever ran. A run names one by its number, which takes one to
-- three bytes where id and names would take fifty; it stays when the function
-- is deleted.
CREATE TABLE function_names (
  number      INTEGER PRIMARY KEY,
  function_id INTEGER NOT NULL UNIQUE,
  app_id      INTEGER NOT NULL,
  app         TEXT NOT NULL,
  function    TEXT NOT NULL
);

-- Words that come again in many runs: reasons, triggers, principals, methods.
CREATE TABLE words (
  number INTEGER PRIMARY KEY,
  word   TEXT NOT NULL UNIQUE
);

-- Runs that go on. Finished ones are in the period tables runs_0001,
-- runs_0002, ..., which have the same columns and are made as they are needed.
--   state    1 scheduled, 2 queued, 3 running, 4 succeeded, 5 failed,
--            6 timed_out, 7 cancelled, 8 expired
--   reason   number of a word, 0 for none
--   waited   microseconds from creation to start, NULL when it did not start
--   took     microseconds from start (creation, without a start) to finish,
--            NULL when it goes on
--   detail   the rest, packed
CREATE TABLE live_runs (
  id       INTEGER PRIMARY KEY,
  function INTEGER NOT NULL,
  state    INTEGER NOT NULL,
  reason   INTEGER NOT NULL,
  version  INTEGER NOT NULL,
  status   INTEGER NOT NULL,
  instance INTEGER NOT NULL,
  waited   INTEGER,
  took     INTEGER,
  detail   BLOB NOT NULL
);

-- The period tables.
--   first_id, last_id   bounds of the ids in it
--   opened_at           instant of the newest id when it was begun
--   dropping            1 when its rows count no more and it is being dropped
CREATE TABLE run_periods (
  number    INTEGER PRIMARY KEY,
  first_id  INTEGER NOT NULL,
  last_id   INTEGER NOT NULL,
  runs      INTEGER NOT NULL,
  opened_at INTEGER NOT NULL,
  dropping  INTEGER NOT NULL DEFAULT 0
);

-- How many runs ended in which state, ever.
CREATE TABLE run_counters (
  function INTEGER NOT NULL,
  state    INTEGER NOT NULL,
  n        INTEGER NOT NULL,
  PRIMARY KEY (function, state)
) WITHOUT ROWID;
