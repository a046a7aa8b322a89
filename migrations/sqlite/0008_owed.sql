-- What is owed from before a pause. Only adds: the release before works on beside this one. Same tables and columns as
-- migrations/postgres.

-- `stopped_on`: the local day on which a subscription was paused or ended, while it is. `gaps`: the days of pauses that are
-- over, as long as a period could still start in them; such periods are never charged.
ALTER TABLE schedules ADD COLUMN stopped_on TEXT CHECK (stopped_on IS date(stopped_on, '+0 days'));
ALTER TABLE schedules ADD COLUMN gaps TEXT;
