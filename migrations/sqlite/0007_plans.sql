-- Plans that an operator's app makes. Only adds: the release before works on beside this one, and bills no subscription whose plan
-- it does not find in its config. Same tables and columns as migrations/postgres.

-- What the table lets through and rebilld cannot bill by (an interval, a zone, a cron expression) parks the plan's subscriptions.
CREATE TABLE plans (
    name TEXT NOT NULL PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 64),
    every TEXT CHECK (length(every) BETWEEN 1 AND 40),
    billing_day TEXT CHECK (billing_day GLOB '[1-9]' OR billing_day GLOB '[12][0-9]' OR billing_day IN ('30', '31', 'last')),
    schedule TEXT CHECK (length(schedule) BETWEEN 1 AND 200),
    charge_time TEXT CHECK (charge_time GLOB '[01][0-9]:[0-5][0-9]' OR charge_time GLOB '2[0-3]:[0-5][0-9]'),
    zone TEXT CHECK (length(zone) BETWEEN 1 AND 64),
    banking TEXT CHECK (banking IN ('none', 'next', 'previous')),
    amount INTEGER CHECK (amount BETWEEN 1 AND 1000000000000),
    currency TEXT CHECK (currency GLOB '[A-Z][A-Z][A-Z]'),
    title TEXT CHECK (length(title) BETWEEN 1 AND 40),
    tax_free INTEGER CHECK (tax_free BETWEEN 0 AND 1000000000000),
    vat_amount INTEGER CHECK (vat_amount BETWEEN 0 AND 1000000000000),
    while_past_due TEXT CHECK (while_past_due IN ('hold', 'continue')),
    trial_days INTEGER CHECK (trial_days BETWEEN 0 AND 3650),
    trial_until TEXT CHECK (trial_until IS date(trial_until, '+0 days')),
    trial_anchor TEXT CHECK (trial_anchor IN ('trial_end', 'keep')),
    resume TEXT CHECK (resume IN ('keep', 'anchor')),
    max_periods INTEGER CHECK (max_periods BETWEEN 1 AND 100000),
    catch_up TEXT CHECK (catch_up IN ('hold', 'all', 'latest_only')),
    catch_up_limit INTEGER CHECK (catch_up_limit BETWEEN 1 AND 100000),
    dunning TEXT CHECK (length(dunning) BETWEEN 1 AND 64),
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    CHECK ((every IS NULL) <> (schedule IS NULL)),
    CHECK (billing_day IS NULL OR every IS NOT NULL),
    CHECK (COALESCE(tax_free, 0) + COALESCE(vat_amount, 0) <= amount)
) STRICT;

-- Dated prices of one plan: for all periods that start on the day or later, until the next one.
CREATE TABLE plan_prices (
    plan TEXT NOT NULL REFERENCES plans (name) ON UPDATE CASCADE ON DELETE CASCADE,
    from_date TEXT NOT NULL CHECK (from_date IS date(from_date, '+0 days')),
    amount INTEGER NOT NULL CHECK (amount BETWEEN 1 AND 1000000000000),
    tax_free INTEGER CHECK (tax_free BETWEEN 0 AND 1000000000000),
    vat_amount INTEGER CHECK (vat_amount BETWEEN 0 AND 1000000000000),
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    PRIMARY KEY (plan, from_date),
    CHECK (COALESCE(tax_free, 0) + COALESCE(vat_amount, 0) <= amount)
) STRICT;

-- One row, counted up with each change of a plan. A table of its own: whoever edits plans holds its lock until COMMIT, and the
-- row of `settings` is written for each charge that is sent.
CREATE TABLE plans_version (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL
) STRICT;
INSERT INTO plans_version (id, version) VALUES (1, 0);

-- Differs because: SQLite has row triggers only.
CREATE TRIGGER plans_added AFTER INSERT ON plans
BEGIN
    UPDATE plans_version SET version = version + 1;
END;
CREATE TRIGGER plans_changed AFTER UPDATE ON plans
BEGIN
    UPDATE plans_version SET version = version + 1;
END;
CREATE TRIGGER plans_deleted AFTER DELETE ON plans
BEGIN
    UPDATE plans_version SET version = version + 1;
END;
CREATE TRIGGER plan_prices_added AFTER INSERT ON plan_prices
BEGIN
    UPDATE plans_version SET version = version + 1;
END;
CREATE TRIGGER plan_prices_changed AFTER UPDATE ON plan_prices
BEGIN
    UPDATE plans_version SET version = version + 1;
END;
CREATE TRIGGER plan_prices_deleted AFTER DELETE ON plan_prices
BEGIN
    UPDATE plans_version SET version = version + 1;
END;

-- A version that was in force is a config together with the plans of the database. `hash` tells versions apart; `config_hash` is
-- that of the config alone, NULL where both are the same.
ALTER TABLE config_versions ADD COLUMN config_hash TEXT;
ALTER TABLE config_versions ADD COLUMN plans TEXT;
