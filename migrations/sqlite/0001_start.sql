-- The ledger of rebilld. Same tables and columns as migrations/postgres; where SQL differs, the comment starts "Differs because".
-- `subscriptions` is a public interface: operators write it with their own SQL. Everything else belongs to rebilld.

CREATE TABLE settings (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    tag TEXT NOT NULL CHECK (tag GLOB '[a-z0-9][a-z0-9]'),
    incarnation TEXT NOT NULL,
    system_identifier TEXT,
    high_water INTEGER NOT NULL DEFAULT 0,
    killed INTEGER NOT NULL DEFAULT 0 CHECK (killed IN (0, 1)),
    kill_reason TEXT,
    held INTEGER NOT NULL DEFAULT 0 CHECK (held IN (0, 1)),
    hold_reason TEXT,
    held_at INTEGER,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE accounts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 64),
    endpoint_id INTEGER,
    killed INTEGER NOT NULL DEFAULT 0 CHECK (killed IN (0, 1)),
    kill_reason TEXT,
    held INTEGER NOT NULL DEFAULT 0 CHECK (held IN (0, 1)),
    hold_reason TEXT,
    held_at INTEGER,
    paused INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
    pause_reason TEXT,
    paused_at INTEGER,
    audited_at INTEGER,
    audited_quick_at INTEGER,
    audited_incarnation TEXT,
    audit_summary TEXT
) STRICT;

-- Where an account sends: a change of key, tier or base URL is a new row, and the account holds until it is confirmed.
CREATE TABLE endpoints (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id INTEGER NOT NULL REFERENCES accounts (id),
    fingerprint TEXT NOT NULL,
    base_url TEXT NOT NULL,
    tier TEXT,
    first_seen_at INTEGER NOT NULL,
    UNIQUE (account_id, fingerprint)
) STRICT;

CREATE TABLE subscriptions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL REFERENCES accounts (name),
    external_ref TEXT NOT NULL CHECK (length(external_ref) BETWEEN 1 AND 200),
    status TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused', 'cancelled')),
    plan TEXT NOT NULL CHECK (length(plan) BETWEEN 1 AND 64),
    customer_uid TEXT NOT NULL CHECK (length(customer_uid) BETWEEN 1 AND 80),
    amount INTEGER CHECK (amount > 0),
    currency TEXT CHECK (currency GLOB '[A-Z][A-Z][A-Z]'),
    name TEXT CHECK (length(name) BETWEEN 1 AND 40),
    anchor TEXT NOT NULL CHECK (anchor IS date(anchor, '+0 days')),
    starts_on TEXT CHECK (starts_on IS date(starts_on, '+0 days')),
    zone TEXT CHECK (length(zone) BETWEEN 1 AND 64),
    charge_time TEXT CHECK (charge_time GLOB '[01][0-9]:[0-5][0-9]' OR charge_time GLOB '2[0-3]:[0-5][0-9]'),
    tax_free INTEGER CHECK (tax_free >= 0),
    vat_amount INTEGER CHECK (vat_amount >= 0),
    buyer_name TEXT CHECK (length(buyer_name) <= 16),
    buyer_email TEXT CHECK (length(buyer_email) <= 64),
    buyer_tel TEXT CHECK (length(buyer_tel) <= 16),
    buyer_addr TEXT CHECK (length(buyer_addr) <= 128),
    buyer_postcode TEXT CHECK (length(buyer_postcode) <= 8),
    card_quota INTEGER CHECK (card_quota BETWEEN 0 AND 36),
    interest_free_by_merchant INTEGER CHECK (interest_free_by_merchant IN (0, 1)),
    use_card_point INTEGER CHECK (use_card_point IN (0, 1)),
    custom_data TEXT CHECK (length(custom_data) <= 4000),
    notice_url TEXT CHECK (length(notice_url) <= 2000),
    product_type TEXT CHECK (product_type IN ('real', 'digital')),
    product_count INTEGER CHECK (product_count >= 1),
    cash_receipt_type TEXT CHECK (cash_receipt_type IN ('person', 'company', 'anonymous')),
    bypass TEXT CHECK (length(bypass) <= 8000),
    extra TEXT CHECK (length(extra) <= 8000),
    promotion_id TEXT CHECK (length(promotion_id) <= 200),
    channel_key TEXT CHECK (length(channel_key) <= 55),
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    UNIQUE (account, external_ref),
    CHECK (COALESCE(tax_free, 0) + COALESCE(vat_amount, 0) <= amount)
) STRICT;

-- When the next period of a subscription opens. Narrow on purpose: it is written for each charge.
CREATE TABLE schedules (
    subscription_id INTEGER PRIMARY KEY,
    next_look_at INTEGER,
    opened_until TEXT CHECK (opened_until IS date(opened_until, '+0 days')),
    not_before TEXT CHECK (not_before IS date(not_before, '+0 days')),
    parked TEXT CHECK (parked IN ('paused', 'ended', 'blocked', 'problem')),
    problem TEXT,
    version INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX schedules_next ON schedules (next_look_at) WHERE next_look_at IS NOT NULL;

CREATE TABLE charges (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    subscription_id INTEGER NOT NULL,
    account_id INTEGER NOT NULL,
    period_start TEXT NOT NULL CHECK (period_start IS date(period_start, '+0 days')),
    period_end TEXT NOT NULL CHECK (period_end IS date(period_end, '+0 days')),
    due_at INTEGER NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    currency TEXT NOT NULL,
    tax_free INTEGER,
    vat_amount INTEGER,
    id_mode TEXT NOT NULL CHECK (id_mode IN ('per_attempt', 'per_period')),
    state TEXT NOT NULL CHECK (state IN ('due', 'doubt', 'review', 'paid', 'unpaid', 'void')),
    waiting TEXT NOT NULL,
    next_at INTEGER,
    id_number INTEGER NOT NULL DEFAULT 1 CHECK (id_number BETWEEN 1 AND 99),
    attempts INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    first_declined_at INTEGER,
    refused_customer TEXT,
    not_sent INTEGER NOT NULL DEFAULT 0,
    doubt_since INTEGER,
    doubt_looks INTEGER NOT NULL DEFAULT 0,
    quiet_since INTEGER,
    quiet_twice INTEGER NOT NULL DEFAULT 0 CHECK (quiet_twice IN (0, 1)),
    alarmed INTEGER NOT NULL DEFAULT 0 CHECK (alarmed IN (0, 1)),
    newest_send_at INTEGER,
    elsewhere_imp_uid TEXT,
    elsewhere_number INTEGER,
    imp_uid TEXT,
    paid_at INTEGER,
    refunded INTEGER NOT NULL DEFAULT 0 CHECK (refunded IN (0, 1)),
    claim_token TEXT,
    claim_until INTEGER,
    version INTEGER NOT NULL DEFAULT 0,
    UNIQUE (subscription_id, period_start),
    CHECK (period_start < period_end)
) STRICT;
CREATE INDEX charges_send ON charges (account_id, next_at) WHERE state = 'due' AND next_at IS NOT NULL;
CREATE INDEX charges_look_up ON charges (account_id, next_at) WHERE state IN ('doubt', 'review', 'unpaid', 'void') AND next_at IS NOT NULL;
CREATE INDEX charges_paid ON charges (account_id, paid_at, id) WHERE state = 'paid';
-- What the next period of a `hold` plan waits for, and what nobody may forget.
CREATE INDEX charges_unresolved ON charges (subscription_id) WHERE state IN ('due', 'doubt', 'review');

-- Which charge an id belongs to: written once.
CREATE TABLE ids (
    merchant_uid TEXT PRIMARY KEY,
    charge_id INTEGER NOT NULL
) STRICT;

CREATE TABLE attempts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    charge_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    id_number INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    customer_uid TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('live', 'paid', 'declined', 'refused', 'void')),
    hint TEXT,
    resends INTEGER NOT NULL DEFAULT 0,
    imp_uid TEXT
) STRICT;
-- THE index: it makes a second charge impossible.
CREATE UNIQUE INDEX attempts_one ON attempts (charge_id) WHERE state IN ('live', 'paid');
CREATE INDEX attempts_ended ON attempts (charge_id) WHERE state NOT IN ('live', 'paid');
CREATE UNIQUE INDEX attempts_imp_uid ON attempts (imp_uid) WHERE imp_uid IS NOT NULL;

CREATE TABLE sends (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    attempt_id INTEGER NOT NULL,
    endpoint_id INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'answered', 'not_sent', 'absent', 'found')),
    begun_at INTEGER NOT NULL,
    ended_at INTEGER,
    body TEXT,
    body_hash TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX sends_open ON sends (attempt_id) WHERE state = 'open';
CREATE INDEX sends_ended ON sends (attempt_id, id) WHERE state NOT IN ('open', 'answered', 'found');

CREATE TABLE observations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    charge_id INTEGER NOT NULL,
    send_id INTEGER,
    source TEXT NOT NULL,
    began_at INTEGER NOT NULL,
    at INTEGER NOT NULL,
    detail TEXT NOT NULL,
    rule TEXT
) STRICT;
CREATE INDEX observations_charge ON observations (charge_id);

CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    at INTEGER NOT NULL,
    subscription_id INTEGER,
    charge_id INTEGER,
    data TEXT NOT NULL
) STRICT;

CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event_seq INTEGER NOT NULL,
    endpoint TEXT NOT NULL,
    subscription_id INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'failed')),
    tries INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL,
    last_error TEXT,
    delivered_at INTEGER
) STRICT;
CREATE INDEX deliveries_next ON deliveries (next_at) WHERE state = 'pending';
CREATE INDEX deliveries_order ON deliveries (endpoint, subscription_id, event_seq) WHERE state = 'pending';
CREATE INDEX deliveries_event ON deliveries (event_seq);

CREATE TABLE incidents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id INTEGER NOT NULL,
    charge_id INTEGER,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL,
    opened_at INTEGER NOT NULL,
    closed_at INTEGER,
    UNIQUE (account_id, kind, detail)
) STRICT;

CREATE TABLE budgets (
    account_id INTEGER NOT NULL,
    day TEXT NOT NULL CHECK (day IS date(day, '+0 days')),
    currency TEXT NOT NULL,
    count INTEGER NOT NULL DEFAULT 0,
    sum INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, day, currency)
) STRICT;

-- What operators changed: who, what, why.
CREATE TABLE journal (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    who TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;

-- Rules that no index can hold. Differs because: SQLite has row triggers only, and one writer at a time.

CREATE TRIGGER subscriptions_keep_identity BEFORE UPDATE OF account, external_ref ON subscriptions WHEN OLD.account IS NOT NEW.account OR OLD.external_ref IS NOT NEW.external_ref
BEGIN
    SELECT RAISE(ABORT, 'account and external_ref of a subscription never change: cancel it and add another');
END;
CREATE TRIGGER charges_keep_terms BEFORE UPDATE OF subscription_id, account_id, period_start, period_end, amount, currency, id_mode ON charges
BEGIN
    SELECT RAISE(ABORT, 'the period, amount and owner of a charge never change');
END;
CREATE TRIGGER charges_paid_is_final BEFORE UPDATE OF state, imp_uid ON charges WHEN OLD.state = 'paid' AND (NEW.state <> 'paid' OR NEW.imp_uid IS NOT OLD.imp_uid)
BEGIN
    SELECT RAISE(ABORT, 'a paid charge is final');
END;
CREATE TRIGGER charges_stay BEFORE DELETE ON charges
BEGIN
    SELECT RAISE(ABORT, 'charges are never deleted');
END;
CREATE TRIGGER ids_not_changed BEFORE UPDATE ON ids
BEGIN
    SELECT RAISE(ABORT, 'an id is written once');
END;
CREATE TRIGGER ids_not_deleted BEFORE DELETE ON ids
BEGIN
    SELECT RAISE(ABORT, 'an id is written once');
END;
CREATE TRIGGER attempts_keep_terms BEFORE UPDATE OF charge_id, number, id_number, amount, customer_uid ON attempts
BEGIN
    SELECT RAISE(ABORT, 'id, amount and charge of an attempt never change');
END;
CREATE TRIGGER attempts_paid_is_final BEFORE UPDATE OF state, imp_uid ON attempts WHEN OLD.state = 'paid' AND (NEW.state <> 'paid' OR NEW.imp_uid IS NOT OLD.imp_uid)
BEGIN
    SELECT RAISE(ABORT, 'a paid attempt is final');
END;
CREATE TRIGGER attempts_stay BEFORE DELETE ON attempts
BEGIN
    SELECT RAISE(ABORT, 'attempts are never deleted');
END;
CREATE TRIGGER sends_keep_terms BEFORE UPDATE OF attempt_id, endpoint_id, begun_at, body_hash ON sends
BEGIN
    SELECT RAISE(ABORT, 'attempt, time and body of a send never change');
END;
CREATE TRIGGER sends_end_once BEFORE UPDATE OF state ON sends WHEN OLD.state <> 'open' AND NEW.state IS NOT OLD.state
BEGIN
    SELECT RAISE(ABORT, 'a send ends once');
END;
CREATE TRIGGER sends_stay BEFORE DELETE ON sends
BEGIN
    SELECT RAISE(ABORT, 'sends are never deleted');
END;
CREATE TRIGGER observations_not_changed BEFORE UPDATE ON observations
BEGIN
    SELECT RAISE(ABORT, 'observations are only ever added');
END;
CREATE TRIGGER observations_not_deleted BEFORE DELETE ON observations
BEGIN
    SELECT RAISE(ABORT, 'observations are only ever added');
END;
CREATE TRIGGER journal_not_changed BEFORE UPDATE ON journal
BEGIN
    SELECT RAISE(ABORT, 'the journal is only ever added to');
END;
CREATE TRIGGER journal_not_deleted BEFORE DELETE ON journal
BEGIN
    SELECT RAISE(ABORT, 'the journal is only ever added to');
END;
CREATE TRIGGER events_append_only BEFORE UPDATE ON events
BEGIN
    SELECT RAISE(ABORT, 'an event never changes');
END;

-- Periods of one subscription never overlap. As none does so far, only the last one that starts before the new one's end can.
CREATE TRIGGER charges_no_overlap BEFORE INSERT ON charges
    WHEN (
        SELECT c.period_end FROM charges c
            WHERE c.subscription_id = NEW.subscription_id AND c.period_start < NEW.period_end AND c.period_start <> NEW.period_start
            ORDER BY c.period_start DESC LIMIT 1
    ) > NEW.period_start
BEGIN
    SELECT RAISE(ABORT, 'the subscription already has a period that overlaps');
END;

-- A row written by hand is picked up: the epoch as `next_look_at` means "at once". A charge between two tries keeps its
-- distance, unless nothing will be sent any more.
CREATE TRIGGER subscriptions_added AFTER INSERT ON subscriptions
BEGIN
    INSERT INTO schedules (subscription_id, next_look_at) VALUES (NEW.id, 0);
END;
CREATE TRIGGER subscriptions_changed AFTER UPDATE ON subscriptions
BEGIN
    UPDATE charges SET next_at = 0, version = version + 1
        WHERE subscription_id = NEW.id AND state IN ('due', 'doubt', 'review') AND state = 'due'
            AND ((waiting = 'card' AND NEW.customer_uid IS NOT OLD.customer_uid)
                OR (NEW.status IS NOT OLD.status AND (waiting <> 'retry' OR NEW.status = 'cancelled')));
    UPDATE schedules SET next_look_at = 0, version = version + 1,
        not_before = CASE WHEN NEW.starts_on IS OLD.starts_on THEN not_before END WHERE subscription_id = NEW.id;
END;
CREATE TRIGGER subscriptions_stay BEFORE DELETE ON subscriptions
    WHEN EXISTS (SELECT 1 FROM charges WHERE subscription_id = OLD.id)
BEGIN
    SELECT RAISE(ABORT, 'a subscription with charges stays: set its status to cancelled');
END;
CREATE TRIGGER subscriptions_deleted AFTER DELETE ON subscriptions
BEGIN
    DELETE FROM schedules WHERE subscription_id = OLD.id;
END;
