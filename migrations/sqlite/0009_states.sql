-- What subscriptions have come to, and billing keys that several share. Only adds: the release before works on beside this one.
-- Same tables and columns as migrations/postgres.

-- No row: active, and nobody has told otherwise. `state`: as it was last told; empty: nothing was told yet. `look_at`: when it is
-- derived anew; 0 means at once.
CREATE TABLE subscription_states (
    subscription_id INTEGER PRIMARY KEY,
    state TEXT CHECK (state IN ('trialing', 'active', 'past_due', 'paused', 'unpaid', 'cancelled')),
    since INTEGER NOT NULL,
    look_at INTEGER,
    version INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE INDEX subscription_states_look ON subscription_states (look_at) WHERE look_at IS NOT NULL;

-- From the release before. Who is paused, cancelled or at an end is not told of again.
INSERT INTO subscription_states (subscription_id, state, since)
    SELECT id, status, updated_at FROM subscriptions WHERE status <> 'active';
INSERT INTO subscription_states (subscription_id, state, since)
    SELECT s.id, 'cancelled', s.updated_at FROM subscriptions s JOIN schedules h ON h.subscription_id = s.id
    WHERE s.status = 'active' AND h.parked = 'ended';
INSERT INTO subscription_states (subscription_id, state, since, look_at)
    SELECT s.id, 'active', s.updated_at, 0 FROM subscriptions s
    WHERE s.status = 'active' AND s.id IN (
            SELECT c.subscription_id FROM charges c
            WHERE c.state = 'unpaid' OR (c.state IN ('due', 'doubt', 'review') AND c.first_declined_at IS NOT NULL)
        )
    ON CONFLICT DO NOTHING;
INSERT INTO subscription_states (subscription_id, since, look_at)
    SELECT s.id, s.updated_at, 0 FROM subscriptions s JOIN schedules h ON h.subscription_id = s.id
    WHERE s.status = 'active' AND h.opened_until IS NULL AND h.parked IS NULL
    ON CONFLICT DO NOTHING;

-- A status written by hand is told at the daemon's next look, and so is another trial.
CREATE TRIGGER subscriptions_state_added AFTER INSERT ON subscriptions WHEN NEW.status <> 'active'
BEGIN
    INSERT INTO subscription_states (subscription_id, since, look_at) VALUES (NEW.id, NEW.updated_at, 0);
END;
CREATE TRIGGER subscriptions_state_changed AFTER UPDATE OF status ON subscriptions WHEN NEW.status IS NOT OLD.status
BEGIN
    INSERT INTO subscription_states (subscription_id, state, since, look_at) VALUES (NEW.id, 'active', NEW.updated_at, 0)
        ON CONFLICT (subscription_id) DO UPDATE SET look_at = 0, version = version + 1;
END;
CREATE TRIGGER subscriptions_trial_changed AFTER UPDATE OF plan, anchor, zone, trial_days, trial_until ON subscriptions
    WHEN (NEW.plan, NEW.anchor, NEW.zone, NEW.trial_days, NEW.trial_until)
        IS NOT (OLD.plan, OLD.anchor, OLD.zone, OLD.trial_days, OLD.trial_until)
BEGIN
    UPDATE subscription_states SET look_at = 0, version = version + 1 WHERE subscription_id = NEW.id AND state = 'trialing';
END;
CREATE TRIGGER subscriptions_state_deleted AFTER DELETE ON subscriptions
BEGIN
    DELETE FROM subscription_states WHERE subscription_id = OLD.id;
END;

-- Billing keys that more than one subscription has: their tries are all kept in card_tries, so that charges to one are spaced
-- whichever batch they are in. A key stays here once it was shared.
CREATE TABLE shared_cards (
    account TEXT NOT NULL,
    customer_uid TEXT NOT NULL,
    PRIMARY KEY (account, customer_uid)
) STRICT;
CREATE INDEX subscriptions_card ON subscriptions (customer_uid);
INSERT INTO shared_cards (account, customer_uid)
    SELECT account, customer_uid FROM subscriptions GROUP BY account, customer_uid HAVING count(*) > 1;
CREATE TRIGGER subscriptions_card_shared_added AFTER INSERT ON subscriptions
    WHEN EXISTS (SELECT 1 FROM subscriptions s WHERE s.customer_uid = NEW.customer_uid AND s.account = NEW.account AND s.id <> NEW.id)
BEGIN
    INSERT INTO shared_cards (account, customer_uid) VALUES (NEW.account, NEW.customer_uid) ON CONFLICT DO NOTHING;
END;
CREATE TRIGGER subscriptions_card_shared_changed AFTER UPDATE OF customer_uid ON subscriptions
    WHEN NEW.customer_uid IS NOT OLD.customer_uid
        AND EXISTS (SELECT 1 FROM subscriptions s WHERE s.customer_uid = NEW.customer_uid AND s.account = NEW.account AND s.id <> NEW.id)
BEGIN
    INSERT INTO shared_cards (account, customer_uid) VALUES (NEW.account, NEW.customer_uid) ON CONFLICT DO NOTHING;
END;
