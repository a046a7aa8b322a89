-- The journal becomes a chain, and daemons say what stops them. Only adds: the release before works on beside this one. Same tables and columns as
-- migrations/sqlite.

-- `previous`: the hash of the entry before, `hash`: of the entry with it. Entries of older releases have neither; the next one
-- that has covers them. `config_version`: the config in force when something was done.
ALTER TABLE journal
    ADD COLUMN config_version BIGINT,
    ADD COLUMN previous TEXT CHECK (length(previous) = 64),
    ADD COLUMN hash TEXT CHECK (length(hash) = 64);
-- No two entries follow the same one: the chain never forks.
CREATE UNIQUE INDEX journal_chain ON journal (previous) WHERE previous IS NOT NULL;
-- Differs because: SQLite has no TRUNCATE.
CREATE TRIGGER journal_not_truncated BEFORE TRUNCATE ON journal
    FOR EACH STATEMENT EXECUTE FUNCTION rebilld_refuse('the journal is only ever added to');

-- What stops this daemon alone, such as a file on its machine, for people.
ALTER TABLE config_daemons ADD COLUMN stopped_by TEXT;
