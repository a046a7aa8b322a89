-- Terms: trials, quantities, ends, changes of plan and price, one-off adjustments, missed periods. Only adds: the release
-- before works on beside this one. Same tables and columns as migrations/postgres.

ALTER TABLE subscriptions ADD COLUMN quantity INTEGER CHECK (quantity BETWEEN 1 AND 1000000);
ALTER TABLE subscriptions ADD COLUMN next_plan TEXT CHECK (length(next_plan) BETWEEN 1 AND 64);
ALTER TABLE subscriptions ADD COLUMN trial_days INTEGER CHECK (trial_days BETWEEN 0 AND 3650);
ALTER TABLE subscriptions ADD COLUMN trial_until TEXT CHECK (trial_until IS date(trial_until, '+0 days'));
ALTER TABLE subscriptions ADD COLUMN trial_anchor TEXT CHECK (trial_anchor IN ('trial_end', 'keep'));
ALTER TABLE subscriptions ADD COLUMN resume TEXT CHECK (resume IN ('keep', 'anchor'));
ALTER TABLE subscriptions ADD COLUMN ends_on TEXT CHECK (ends_on IS date(ends_on, '+0 days'));
ALTER TABLE subscriptions ADD COLUMN max_periods INTEGER CHECK (max_periods BETWEEN 1 AND 100000);
ALTER TABLE subscriptions ADD COLUMN cancel_at_period_end INTEGER CHECK (cancel_at_period_end IN (0, 1));

-- `anchor`: what periods are counted from instead of the row's. `missed`: how many periods wait for an operator; those that
-- start before `caught_up` do not ask again.
ALTER TABLE schedules ADD COLUMN anchor TEXT CHECK (anchor IS date(anchor, '+0 days'));
ALTER TABLE schedules ADD COLUMN periods INTEGER NOT NULL DEFAULT 0;
ALTER TABLE schedules ADD COLUMN missed INTEGER;
ALTER TABLE schedules ADD COLUMN caught_up TEXT CHECK (caught_up IS date(caught_up, '+0 days'));
CREATE INDEX schedules_missed ON schedules (subscription_id) WHERE missed IS NOT NULL;
UPDATE schedules SET periods = (SELECT count(*) FROM charges c WHERE c.subscription_id = schedules.subscription_id);

-- Dated prices of one subscription: for all periods that start on the day or later, until the next one.
CREATE TABLE price_changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    subscription_id INTEGER NOT NULL REFERENCES subscriptions (id) ON DELETE CASCADE,
    from_date TEXT NOT NULL CHECK (from_date IS date(from_date, '+0 days')),
    amount INTEGER NOT NULL CHECK (amount > 0),
    tax_free INTEGER CHECK (tax_free >= 0),
    vat_amount INTEGER CHECK (vat_amount >= 0),
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    UNIQUE (subscription_id, from_date),
    CHECK (COALESCE(tax_free, 0) + COALESCE(vat_amount, 0) <= amount)
) STRICT;

-- Discounts (below 0) and surcharges of the next charge, once: `used_on` is the start of the period that took it.
CREATE TABLE adjustments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    subscription_id INTEGER NOT NULL REFERENCES subscriptions (id) ON DELETE CASCADE,
    amount INTEGER NOT NULL CHECK (amount <> 0),
    name TEXT CHECK (length(name) BETWEEN 1 AND 100),
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    used_on TEXT CHECK (used_on IS date(used_on, '+0 days')),
    charge_id INTEGER
) STRICT;
CREATE INDEX adjustments_pending ON adjustments (subscription_id) WHERE used_on IS NULL;
CREATE INDEX adjustments_used ON adjustments (charge_id) WHERE charge_id IS NOT NULL;

-- Differs because: SQLite has row triggers only.

-- Another anchor by hand is counted from at once, whatever a trial, a pause or a plan has moved it to.
CREATE TRIGGER subscriptions_counted_anew AFTER UPDATE OF anchor ON subscriptions WHEN NEW.anchor IS NOT OLD.anchor
BEGIN
    UPDATE schedules SET anchor = NULL WHERE subscription_id = NEW.id;
END;

CREATE TRIGGER price_changes_added AFTER INSERT ON price_changes
BEGIN
    UPDATE schedules SET next_look_at = 0, version = version + 1 WHERE subscription_id = NEW.subscription_id;
END;
CREATE TRIGGER price_changes_changed AFTER UPDATE ON price_changes
BEGIN
    UPDATE schedules SET next_look_at = 0, version = version + 1 WHERE subscription_id IN (OLD.subscription_id, NEW.subscription_id);
END;
CREATE TRIGGER price_changes_deleted AFTER DELETE ON price_changes
BEGIN
    UPDATE schedules SET next_look_at = 0, version = version + 1 WHERE subscription_id = OLD.subscription_id;
END;

CREATE TRIGGER adjustments_keep_use BEFORE UPDATE ON adjustments WHEN OLD.used_on IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'an adjustment that a period has used never changes: add another one');
END;
CREATE TRIGGER adjustments_stay BEFORE DELETE ON adjustments WHEN OLD.used_on IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'an adjustment that a period has used stays');
END;
CREATE TRIGGER adjustments_added AFTER INSERT ON adjustments WHEN NEW.used_on IS NULL
BEGIN
    UPDATE schedules SET next_look_at = 0, version = version + 1 WHERE subscription_id = NEW.subscription_id;
END;
CREATE TRIGGER adjustments_changed AFTER UPDATE ON adjustments WHEN NEW.used_on IS NULL
BEGIN
    UPDATE schedules SET next_look_at = 0, version = version + 1 WHERE subscription_id IN (OLD.subscription_id, NEW.subscription_id);
END;
CREATE TRIGGER adjustments_deleted AFTER DELETE ON adjustments
BEGIN
    UPDATE schedules SET next_look_at = 0, version = version + 1 WHERE subscription_id = OLD.subscription_id;
END;
