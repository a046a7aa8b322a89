-- What a charge's way through the database costs: see benches/throughput.

-- Asked for each charge that ends, and nearly always empty.
CREATE INDEX schedules_blocked ON schedules (subscription_id) WHERE parked = 'blocked';
