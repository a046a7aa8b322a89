-- Configs as they were in force, so that each charge names the one that it was made under.

CREATE TABLE config_versions (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    -- What matters for money, without secrets.
    body JSONB NOT NULL,
    loaded_at TIMESTAMPTZ NOT NULL,
    who TEXT NOT NULL,
    -- When all schedules had been brought in line with it; empty while that is under way.
    settled_at TIMESTAMPTZ
);

-- What operators have approved: a daemon whose own config has this hash takes it, whatever its effect.
CREATE TABLE config_approvals (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash TEXT NOT NULL,
    -- What was in force when its effect was looked at: it counts for a change from there only.
    base TEXT,
    approved_at TIMESTAMPTZ NOT NULL,
    who TEXT NOT NULL,
    reason TEXT NOT NULL
);

-- What each running daemon goes by, and what it has refused.
CREATE TABLE config_daemons (
    instance TEXT PRIMARY KEY,
    version_id BIGINT NOT NULL,
    taken_at TIMESTAMPTZ NOT NULL,
    seen_at TIMESTAMPTZ NOT NULL,
    stopped_at TIMESTAMPTZ,
    refused_hash TEXT,
    refused_why TEXT,
    refused_at TIMESTAMPTZ
);

ALTER TABLE charges ADD COLUMN config_version BIGINT;
