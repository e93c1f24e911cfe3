-- What passed to and from the apps of launchers, and what they took, in slots of time: JSON, read and written as a whole.
-- `width` and `start` are seconds. Old slots are removed.
CREATE TABLE usage_slots (
    launcher_id TEXT NOT NULL REFERENCES launchers (id) ON DELETE CASCADE,
    width BIGINT NOT NULL,
    start BIGINT NOT NULL,
    counts TEXT NOT NULL,
    PRIMARY KEY (launcher_id, width, start)
);
CREATE INDEX usage_slots_by_age ON usage_slots (width, start);
-- When apps were on that are off now, or were switched on anew since, in milliseconds.
CREATE TABLE times_on (
    launcher_id TEXT NOT NULL REFERENCES launchers (id) ON DELETE CASCADE,
    began BIGINT NOT NULL,
    ended BIGINT NOT NULL
);
CREATE INDEX times_on_by_launcher ON times_on (launcher_id, ended);
-- What was stopped lately because memory was short, of all apps.
CREATE INDEX events_by_kind ON events (kind, id);
