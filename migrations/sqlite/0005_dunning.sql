-- Dunning: what a charge remembers of its declines, and what a billing key has been through over all its subscriptions.

ALTER TABLE charges ADD COLUMN declined_customer TEXT;
ALTER TABLE charges ADD COLUMN restarted_after INTEGER;
ALTER TABLE charges ADD COLUMN transients INTEGER NOT NULL DEFAULT 0;
ALTER TABLE charges ADD COLUMN transient_since INTEGER;

-- Tries of billing keys that were ever declined, and of no others: a key whose charges are paid leaves no row here.
CREATE TABLE card_tries (
    attempt_id INTEGER PRIMARY KEY,
    account_id INTEGER NOT NULL,
    customer_uid TEXT NOT NULL,
    charge_id INTEGER NOT NULL,
    at INTEGER NOT NULL,
    class TEXT
) STRICT;
CREATE INDEX card_tries_of ON card_tries (customer_uid, account_id, at);

-- The caps hold from the first start on: declines of the time before count too.
INSERT INTO card_tries (attempt_id, account_id, customer_uid, charge_id, at)
    SELECT a.id, c.account_id, a.customer_uid, a.charge_id, COALESCE(c.newest_send_at, c.due_at)
    FROM attempts a JOIN charges c ON c.id = a.charge_id
    WHERE a.state NOT IN ('live', 'paid') AND a.state = 'declined';
UPDATE charges SET declined_customer = (
        SELECT a.customer_uid FROM attempts a WHERE a.charge_id = charges.id AND a.state NOT IN ('live', 'paid')
            AND a.state = 'declined' ORDER BY a.id DESC LIMIT 1
    ) WHERE state IN ('due', 'doubt', 'review') AND tries > 0;

-- A new billing key is tried at once, whatever the charge waits for. Differs because SQLite has row triggers only.
CREATE TRIGGER subscriptions_card_changed AFTER UPDATE OF customer_uid ON subscriptions WHEN NEW.customer_uid IS NOT OLD.customer_uid
BEGIN
    UPDATE charges SET next_at = 0, version = version + 1
        WHERE subscription_id = NEW.id AND state IN ('due', 'doubt', 'review') AND state = 'due'
            AND waiting IN ('retry', 'card_rest');
END;
