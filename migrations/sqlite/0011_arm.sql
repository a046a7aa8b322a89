-- Arming: a database has to be armed once before it may charge a live account. Only adds: the release before works on beside this
-- one. Same tables and columns as migrations/postgres.

-- `live`: whether the account sends anywhere but to this machine; the daemon writes it at its start, and until then it is taken for
-- live. It is armed in one incarnation of the database only.
ALTER TABLE accounts ADD COLUMN live INTEGER NOT NULL DEFAULT 1 CHECK (live IN (0, 1));
ALTER TABLE accounts ADD COLUMN armed_incarnation TEXT;
ALTER TABLE accounts ADD COLUMN armed_at INTEGER;

-- A business that is running goes on: what has sent from here to where it sends now counts as armed.
UPDATE accounts SET armed_incarnation = (SELECT incarnation FROM settings)
    WHERE EXISTS (
        SELECT 1 FROM endpoints n
            JOIN endpoints e ON e.account_id = n.account_id AND e.base_url = n.base_url
            JOIN sends s ON s.endpoint_id = e.id
            WHERE n.id = accounts.endpoint_id
    );

-- Billing keys that have bookings in PortOne's own schedule, as `rebilld takeover check` saw them last: they are not charged from here
-- until those are gone. A key without bookings has no row.
CREATE TABLE key_bookings (
    account_id INTEGER NOT NULL,
    customer_uid TEXT NOT NULL,
    bookings INTEGER NOT NULL CHECK (bookings > 0),
    first_at INTEGER,
    checked_at INTEGER NOT NULL,
    PRIMARY KEY (customer_uid, account_id)
) STRICT;
