-- Terms: trials, quantities, ends, changes of plan and price, one-off adjustments, missed periods. Only adds: the release
-- before works on beside this one. Same tables and columns as migrations/sqlite.

ALTER TABLE subscriptions
    ADD COLUMN quantity BIGINT CHECK (quantity BETWEEN 1 AND 1000000),
    ADD COLUMN next_plan TEXT CHECK (length(next_plan) BETWEEN 1 AND 64),
    ADD COLUMN trial_days BIGINT CHECK (trial_days BETWEEN 0 AND 3650),
    ADD COLUMN trial_until DATE,
    ADD COLUMN trial_anchor TEXT CHECK (trial_anchor IN ('trial_end', 'keep')),
    ADD COLUMN resume TEXT CHECK (resume IN ('keep', 'anchor')),
    ADD COLUMN ends_on DATE,
    ADD COLUMN max_periods BIGINT CHECK (max_periods BETWEEN 1 AND 100000),
    ADD COLUMN cancel_at_period_end BOOLEAN;
COMMENT ON COLUMN subscriptions.quantity IS 'What the price is multiplied by; NULL: 1.';
COMMENT ON COLUMN subscriptions.next_plan IS 'The plan that takes over when the next period opens; then it is moved into plan.';
COMMENT ON COLUMN subscriptions.trial_days IS 'Days from the anchor on that are not charged for; NULL: the plan''s. For rows that have never been billed.';
COMMENT ON COLUMN subscriptions.trial_until IS 'First day after the trial; wins over trial_days.';
COMMENT ON COLUMN subscriptions.trial_anchor IS 'From where periods are counted after the trial: trial_end or keep; NULL: the plan''s.';
COMMENT ON COLUMN subscriptions.resume IS 'From where periods are counted after a pause: keep or anchor; NULL: the plan''s.';
COMMENT ON COLUMN subscriptions.ends_on IS 'No period starts on this day or after it.';
COMMENT ON COLUMN subscriptions.max_periods IS 'Periods at most; NULL: the plan''s.';
COMMENT ON COLUMN subscriptions.cancel_at_period_end IS 'true: the period that is open is the last. Can be taken back before its end.';

-- `anchor`: what periods are counted from instead of the row's. `missed`: how many periods wait for an operator; those that
-- start before `caught_up` do not ask again.
ALTER TABLE schedules
    ADD COLUMN anchor DATE,
    ADD COLUMN periods BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN missed BIGINT,
    ADD COLUMN caught_up DATE;
CREATE INDEX schedules_missed ON schedules (subscription_id) WHERE missed IS NOT NULL;
UPDATE schedules SET periods = c.periods
    FROM (SELECT subscription_id, count(*) AS periods FROM charges GROUP BY subscription_id) c
    WHERE c.subscription_id = schedules.subscription_id;

-- Dated prices of one subscription: for all periods that start on the day or later, until the next one.
CREATE TABLE price_changes (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription_id BIGINT NOT NULL REFERENCES subscriptions (id) ON DELETE CASCADE,
    from_date DATE NOT NULL,
    amount BIGINT NOT NULL CHECK (amount > 0),
    tax_free BIGINT CHECK (tax_free >= 0),
    vat_amount BIGINT CHECK (vat_amount >= 0),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (subscription_id, from_date),
    CHECK (COALESCE(tax_free, 0) + COALESCE(vat_amount, 0) <= amount)
);
COMMENT ON TABLE price_changes IS 'Public interface of rebilld: dated prices of one subscription, each until the next one.';
COMMENT ON COLUMN price_changes.from_date IS 'Periods that start on this local day or later cost the amount.';
COMMENT ON COLUMN price_changes.amount IS 'For a quantity of 1, in minor units.';

-- Discounts (below 0) and surcharges of the next charge, once: `used_on` is the start of the period that took it.
CREATE TABLE adjustments (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription_id BIGINT NOT NULL REFERENCES subscriptions (id) ON DELETE CASCADE,
    amount BIGINT NOT NULL CHECK (amount <> 0),
    name TEXT CHECK (length(name) BETWEEN 1 AND 100),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    used_on DATE,
    charge_id BIGINT
);
CREATE INDEX adjustments_pending ON adjustments (subscription_id) WHERE used_on IS NULL;
CREATE INDEX adjustments_used ON adjustments (charge_id) WHERE charge_id IS NOT NULL;
COMMENT ON TABLE adjustments IS 'Public interface of rebilld: discounts and surcharges of the next charge, used once. Rows that a period has used stay.';
COMMENT ON COLUMN adjustments.amount IS 'Minor units; below 0: a discount.';
COMMENT ON COLUMN adjustments.name IS 'For people; not sent to the gateway.';
COMMENT ON COLUMN adjustments.used_on IS 'Set by rebilld: the start of the period that has used it.';

-- Differs because: Postgres wants functions, and NOTIFY wakes the daemon.

-- Another anchor by hand is counted from at once, whatever a trial, a pause or a plan has moved it to.
CREATE FUNCTION rebilld_counted_anew() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE schedules SET anchor = NULL WHERE subscription_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER subscriptions_counted_anew AFTER UPDATE OF anchor ON subscriptions
    FOR EACH ROW WHEN (NEW.anchor IS DISTINCT FROM OLD.anchor) EXECUTE FUNCTION rebilld_counted_anew();

CREATE FUNCTION rebilld_terms_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'DELETE' THEN
        UPDATE schedules SET next_look_at = to_timestamp(0), version = version + 1 WHERE subscription_id = NEW.subscription_id;
    END IF;
    IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND NEW.subscription_id <> OLD.subscription_id) THEN
        UPDATE schedules SET next_look_at = to_timestamp(0), version = version + 1 WHERE subscription_id = OLD.subscription_id;
    END IF;
    NOTIFY rebilld;
    RETURN NULL;
END $$;
CREATE TRIGGER price_changes_changed AFTER INSERT OR UPDATE OR DELETE ON price_changes
    FOR EACH ROW EXECUTE FUNCTION rebilld_terms_changed();
CREATE TRIGGER adjustments_added AFTER INSERT OR UPDATE ON adjustments
    FOR EACH ROW WHEN (NEW.used_on IS NULL) EXECUTE FUNCTION rebilld_terms_changed();
CREATE TRIGGER adjustments_deleted AFTER DELETE ON adjustments
    FOR EACH ROW EXECUTE FUNCTION rebilld_terms_changed();
CREATE TRIGGER adjustments_keep_use BEFORE UPDATE ON adjustments
    FOR EACH ROW WHEN (OLD.used_on IS NOT NULL)
    EXECUTE FUNCTION rebilld_refuse('an adjustment that a period has used never changes: add another one');
CREATE TRIGGER adjustments_stay BEFORE DELETE ON adjustments
    FOR EACH ROW WHEN (OLD.used_on IS NOT NULL) EXECUTE FUNCTION rebilld_refuse('an adjustment that a period has used stays');
