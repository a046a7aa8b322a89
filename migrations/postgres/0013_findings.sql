-- Days of plans that can be counted, and configs that wait for a word. Only adds: the release before works on beside this one. Same
-- tables and columns as migrations/sqlite.

-- Differs because: a DATE of Postgres goes on after the year 9999, to infinity. Rows that are there already are not looked at: one
-- that breaks the rule is refused when it is next written.
ALTER TABLE plans ADD CONSTRAINT plans_days CHECK (
    trial_until BETWEEN DATE '0001-01-01' AND DATE '9999-12-31'
) NOT VALID;
ALTER TABLE plan_prices ADD CONSTRAINT plan_prices_days CHECK (
    from_date BETWEEN DATE '0001-01-01' AND DATE '9999-12-31'
) NOT VALID;

-- A config that this daemon did not take because of what it would do to money: none starts with it before an operator has said so.
ALTER TABLE config_daemons ADD COLUMN unconfirmed_hash TEXT;
