-- Until when a jump of the database clock holds sends and conclusions of "not paid", by that clock: a restart has to heed it.
ALTER TABLE settings ADD COLUMN unsteady_until TIMESTAMPTZ;

-- What was given back of a payment, as it was last told; NULL: nothing, or told before this column was there.
ALTER TABLE charges ADD COLUMN refunded_amount BIGINT;

-- Parked by nothing, and looked at by nobody: there is never to be such a row, and the count of what is missed asks for it.
CREATE INDEX schedules_lost ON schedules (subscription_id) WHERE parked IS NULL AND next_look_at IS NULL;
