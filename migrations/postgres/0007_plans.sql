-- Plans that an operator's app makes. Only adds: the release before works on beside this one, and bills no subscription whose plan
-- it does not find in its config. Same tables and columns as migrations/sqlite.

-- What the table lets through and rebilld cannot bill by (an interval, a zone, a cron expression) parks the plan's subscriptions.
CREATE TABLE plans (
    name TEXT PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 64),
    every TEXT CHECK (length(every) BETWEEN 1 AND 40),
    billing_day TEXT CHECK (billing_day ~ '^([1-9]|[12][0-9]|3[01]|last)$'),
    schedule TEXT CHECK (length(schedule) BETWEEN 1 AND 200),
    charge_time TEXT CHECK (charge_time ~ '^([01][0-9]|2[0-3]):[0-5][0-9]$'),
    zone TEXT CHECK (length(zone) BETWEEN 1 AND 64),
    banking TEXT CHECK (banking IN ('none', 'next', 'previous')),
    amount BIGINT CHECK (amount BETWEEN 1 AND 1000000000000),
    currency TEXT CHECK (currency ~ '^[A-Z]{3}$'),
    title TEXT CHECK (length(title) BETWEEN 1 AND 40),
    tax_free BIGINT CHECK (tax_free BETWEEN 0 AND 1000000000000),
    vat_amount BIGINT CHECK (vat_amount BETWEEN 0 AND 1000000000000),
    while_past_due TEXT CHECK (while_past_due IN ('hold', 'continue')),
    trial_days BIGINT CHECK (trial_days BETWEEN 0 AND 3650),
    trial_until DATE,
    trial_anchor TEXT CHECK (trial_anchor IN ('trial_end', 'keep')),
    resume TEXT CHECK (resume IN ('keep', 'anchor')),
    max_periods BIGINT CHECK (max_periods BETWEEN 1 AND 100000),
    catch_up TEXT CHECK (catch_up IN ('hold', 'all', 'latest_only')),
    catch_up_limit BIGINT CHECK (catch_up_limit BETWEEN 1 AND 100000),
    dunning TEXT CHECK (length(dunning) BETWEEN 1 AND 64),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CHECK ((every IS NULL) <> (schedule IS NULL)),
    CHECK (billing_day IS NULL OR every IS NOT NULL),
    CHECK (COALESCE(tax_free, 0) + COALESCE(vat_amount, 0) <= amount)
);
COMMENT ON TABLE plans IS 'Public interface of rebilld: plans beside those of the config, with its keys as columns and its defaults for NULL. No name may be in both.';
COMMENT ON COLUMN plans.name IS 'What subscriptions.plan names: letters, digits, - and _.';
COMMENT ON COLUMN plans.every IS 'How long a period is, such as 1 month; or schedule.';
COMMENT ON COLUMN plans.billing_day IS '1 to 31, or last; NULL: the anchor''s day. With every only.';
COMMENT ON COLUMN plans.schedule IS 'Cron with seconds, in the subscription''s zone; or every.';
COMMENT ON COLUMN plans.charge_time IS 'Local time of day, HH:MM; NULL: 10:00, or the schedule''s own.';
COMMENT ON COLUMN plans.zone IS 'IANA time zone; NULL: the account''s.';
COMMENT ON COLUMN plans.banking IS 'none, next or previous banking day; NULL: none.';
COMMENT ON COLUMN plans.amount IS 'Minor units (won for KRW), above 0; NULL: each subscription says it.';
COMMENT ON COLUMN plans.currency IS 'ISO 4217 code; NULL: KRW.';
COMMENT ON COLUMN plans.title IS 'Order title that the payer sees, at most 40 characters; NULL: each subscription says it.';
COMMENT ON COLUMN plans.tax_free IS 'Tax-free part of the amount, minor units.';
COMMENT ON COLUMN plans.vat_amount IS 'VAT part of the amount, minor units.';
COMMENT ON COLUMN plans.while_past_due IS 'hold or continue while a charge is unresolved; NULL: hold.';
COMMENT ON COLUMN plans.trial_days IS 'Days from the anchor on that are not charged for; NULL: 0.';
COMMENT ON COLUMN plans.trial_until IS 'First day after the trial, the same for all; wins over trial_days.';
COMMENT ON COLUMN plans.trial_anchor IS 'From where periods are counted after a trial: trial_end or keep; NULL: trial_end.';
COMMENT ON COLUMN plans.resume IS 'From where periods are counted after a pause: keep or anchor; NULL: keep.';
COMMENT ON COLUMN plans.max_periods IS 'Periods of one subscription at most; NULL: no bound.';
COMMENT ON COLUMN plans.catch_up IS 'hold, all or latest_only; NULL: hold.';
COMMENT ON COLUMN plans.catch_up_limit IS 'Missed periods that catch_up = all charges at most; NULL: 3.';
COMMENT ON COLUMN plans.dunning IS 'Name of a [dunning.NAME] of the config, where the release has them.';

-- Dated prices of one plan: for all periods that start on the day or later, until the next one.
CREATE TABLE plan_prices (
    plan TEXT NOT NULL REFERENCES plans (name) ON UPDATE CASCADE ON DELETE CASCADE,
    from_date DATE NOT NULL,
    amount BIGINT NOT NULL CHECK (amount BETWEEN 1 AND 1000000000000),
    tax_free BIGINT CHECK (tax_free BETWEEN 0 AND 1000000000000),
    vat_amount BIGINT CHECK (vat_amount BETWEEN 0 AND 1000000000000),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (plan, from_date),
    CHECK (COALESCE(tax_free, 0) + COALESCE(vat_amount, 0) <= amount)
);
COMMENT ON TABLE plan_prices IS 'Public interface of rebilld: dated prices of a row of plans, each until the next one.';
COMMENT ON COLUMN plan_prices.from_date IS 'Periods that start on this local day or later cost the amount.';
COMMENT ON COLUMN plan_prices.amount IS 'For a quantity of 1, in minor units.';

-- One row, counted up with each change of a plan. A table of its own: whoever edits plans holds its lock until COMMIT, and the
-- row of `settings` is written for each charge that is sent.
CREATE TABLE plans_version (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    version BIGINT NOT NULL
);
INSERT INTO plans_version (id, version) VALUES (1, 0);

-- Differs because: Postgres wants a function, and NOTIFY wakes the daemon.
CREATE FUNCTION rebilld_plans_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE plans_version SET version = version + 1;
    NOTIFY rebilld, 'plans';
    RETURN NULL;
END $$;
CREATE TRIGGER plans_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON plans
    FOR EACH STATEMENT EXECUTE FUNCTION rebilld_plans_changed();
CREATE TRIGGER plan_prices_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON plan_prices
    FOR EACH STATEMENT EXECUTE FUNCTION rebilld_plans_changed();

-- A version that was in force is a config together with the plans of the database. `hash` tells versions apart; `config_hash` is
-- that of the config alone, NULL where both are the same.
ALTER TABLE config_versions
    ADD COLUMN config_hash TEXT,
    ADD COLUMN plans JSONB;
