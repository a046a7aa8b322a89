-- Days of plans that can be counted, and configs that wait for a word. Only adds: the release before works on beside this one. Same
-- tables and columns as migrations/postgres.

-- Differs because: SQLite counts years before 0, and cannot add a CHECK to a table. Rows that are there already are not looked at.
CREATE TRIGGER plans_days_added BEFORE INSERT ON plans WHEN NEW.trial_until NOT GLOB '[0-9][0-9][0-9][0-9]-*'
BEGIN
    SELECT RAISE(ABORT, 'trial_until of plans has to be a day of the years 0000 to 9999');
END;
CREATE TRIGGER plans_days_changed BEFORE UPDATE OF trial_until ON plans WHEN NEW.trial_until NOT GLOB '[0-9][0-9][0-9][0-9]-*'
BEGIN
    SELECT RAISE(ABORT, 'trial_until of plans has to be a day of the years 0000 to 9999');
END;
CREATE TRIGGER plan_prices_days_added BEFORE INSERT ON plan_prices WHEN NEW.from_date NOT GLOB '[0-9][0-9][0-9][0-9]-*'
BEGIN
    SELECT RAISE(ABORT, 'from_date of plan_prices has to be a day of the years 0000 to 9999');
END;
CREATE TRIGGER plan_prices_days_changed BEFORE UPDATE OF from_date ON plan_prices WHEN NEW.from_date NOT GLOB '[0-9][0-9][0-9][0-9]-*'
BEGIN
    SELECT RAISE(ABORT, 'from_date of plan_prices has to be a day of the years 0000 to 9999');
END;

-- A config that this daemon did not take because of what it would do to money: none starts with it before an operator has said so.
ALTER TABLE config_daemons ADD COLUMN unconfirmed_hash TEXT;
