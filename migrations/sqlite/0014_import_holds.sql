-- A held row knows the subscription as it was. Only adds: the release before works on beside this one. Same tables and columns as
-- migrations/postgres.

-- Of the subscription when its row was held: a hash of its cells, or `new` if there was none. A row that an older release has held
-- has none, and is confirmed only as a new one.
ALTER TABLE import_holds ADD COLUMN before_hash TEXT;
CREATE INDEX import_holds_waiting ON import_holds (held_at) WHERE rejected_at IS NULL;
