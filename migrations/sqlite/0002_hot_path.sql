-- What a charge's way through the database costs: see benches/throughput.

-- Asked for each charge that ends, and nearly always empty.
CREATE INDEX schedules_blocked ON schedules (subscription_id) WHERE parked = 'blocked';

-- One tree instead of two. Differs because Postgres has no such tables.
CREATE TABLE ids_by_uid (
    merchant_uid TEXT PRIMARY KEY,
    charge_id INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO ids_by_uid (merchant_uid, charge_id) SELECT merchant_uid, charge_id FROM ids ORDER BY merchant_uid;
DROP TRIGGER ids_not_changed;
DROP TRIGGER ids_not_deleted;
DROP TABLE ids;
ALTER TABLE ids_by_uid RENAME TO ids;
CREATE TRIGGER ids_not_changed BEFORE UPDATE ON ids
BEGIN
    SELECT RAISE(ABORT, 'an id is written once');
END;
CREATE TRIGGER ids_not_deleted BEFORE DELETE ON ids
BEGIN
    SELECT RAISE(ABORT, 'an id is written once');
END;
