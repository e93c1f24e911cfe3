-- Previews are launchers that are made of another launcher and one of its branches, and end by themselves.
ALTER TABLE launchers ADD COLUMN preview_of TEXT REFERENCES launchers (id) ON DELETE CASCADE;
ALTER TABLE launchers ADD COLUMN preview_branch TEXT;
ALTER TABLE launchers ADD COLUMN preview_ends_at BIGINT;
CREATE UNIQUE INDEX launchers_by_preview ON launchers (preview_of, preview_branch);

-- Which launcher and branch a preview's name belongs to: the same branch gets the same address again, and nothing else does.
ALTER TABLE app_names ADD COLUMN preview TEXT;

-- How a launcher learns of changes, and what of them it makes previews: JSON, read and written as a whole.
CREATE TABLE following (
    launcher_id TEXT NOT NULL PRIMARY KEY REFERENCES launchers (id) ON DELETE CASCADE,
    settings TEXT NOT NULL
);

-- What was last seen of a launcher's branch, and when it is looked at again; never where `next_at` is absent.
CREATE TABLE sightings (
    launcher_id TEXT NOT NULL PRIMARY KEY REFERENCES launchers (id) ON DELETE CASCADE,
    tip TEXT,
    looked_at BIGINT,
    error TEXT,
    failures BIGINT NOT NULL,
    next_at BIGINT
);
CREATE INDEX sightings_by_next ON sightings (next_at);

-- How a revision's app scaled: JSON. `runs_as`: the revision whose replicas run it, where nothing but scaling is different.
ALTER TABLE revisions ADD COLUMN scaling TEXT;
ALTER TABLE revisions ADD COLUMN runs_as TEXT;
