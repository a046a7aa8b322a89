-- What is owed from before a pause, and dates that can be counted. Only adds: the release before works on beside this one. Same
-- tables and columns as migrations/sqlite.

-- `stopped_on`: the local day on which a subscription was paused or ended, while it is. `gaps`: the days of pauses that are
-- over, as long as a period could still start in them; such periods are never charged.
ALTER TABLE schedules
    ADD COLUMN stopped_on DATE,
    ADD COLUMN gaps TEXT;

-- Differs because: a DATE of Postgres goes on after the year 9999, to infinity; one of SQLite's checks does not. Rows that are
-- there already are not looked at: one that breaks the rule is refused when it is next written.
ALTER TABLE subscriptions ADD CONSTRAINT subscriptions_days CHECK (
    anchor BETWEEN DATE '0001-01-01' AND DATE '9999-12-31'
    AND starts_on BETWEEN DATE '0001-01-01' AND DATE '9999-12-31'
    AND ends_on BETWEEN DATE '0001-01-01' AND DATE '9999-12-31'
    AND trial_until BETWEEN DATE '0001-01-01' AND DATE '9999-12-31'
) NOT VALID;
ALTER TABLE price_changes ADD CONSTRAINT price_changes_days CHECK (
    from_date BETWEEN DATE '0001-01-01' AND DATE '9999-12-31'
) NOT VALID;
ALTER TABLE adjustments ADD CONSTRAINT adjustments_days CHECK (
    used_on BETWEEN DATE '0001-01-01' AND DATE '9999-12-31'
) NOT VALID;
COMMENT ON COLUMN subscriptions.starts_on IS 'Earliest period start to charge for; NULL: the day on which the row was written (created_at). Earlier periods are never charged.';
