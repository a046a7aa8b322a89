-- What a charge's way through the database costs: see benches/throughput.

-- A BEFORE trigger locks the row's old version with a log record of its own before the condition is looked at; an AFTER trigger
-- whose condition does not hold costs next to nothing, and refuses the statement just the same.
DROP TRIGGER charges_paid_is_final ON charges;
CREATE TRIGGER charges_paid_is_final AFTER UPDATE OF state, imp_uid ON charges
    FOR EACH ROW WHEN (OLD.state = 'paid' AND (NEW.state <> 'paid' OR NEW.imp_uid IS DISTINCT FROM OLD.imp_uid))
    EXECUTE FUNCTION rebilld_refuse('a paid charge is final');
DROP TRIGGER attempts_paid_is_final ON attempts;
CREATE TRIGGER attempts_paid_is_final AFTER UPDATE OF state, imp_uid ON attempts
    FOR EACH ROW WHEN (OLD.state = 'paid' AND (NEW.state <> 'paid' OR NEW.imp_uid IS DISTINCT FROM OLD.imp_uid))
    EXECUTE FUNCTION rebilld_refuse('a paid attempt is final');
DROP TRIGGER sends_end_once ON sends;
CREATE TRIGGER sends_end_once AFTER UPDATE OF state ON sends
    FOR EACH ROW WHEN (OLD.state <> 'open' AND NEW.state IS DISTINCT FROM OLD.state)
    EXECUTE FUNCTION rebilld_refuse('a send ends once');

-- Asked for each charge that ends, and nearly always empty.
CREATE INDEX schedules_blocked ON schedules (subscription_id) WHERE parked = 'blocked';

-- Each row is written once more when its outcome is known. With room for that on its page, the new version costs neither a second
-- page nor the lock record that goes with it, and its log record leaves out what has not changed.
ALTER TABLE charges SET (fillfactor = 45);
ALTER TABLE attempts SET (fillfactor = 45);
ALTER TABLE sends SET (fillfactor = 65);
ALTER TABLE schedules SET (fillfactor = 50);
