-- Who may open the app of a launcher, where that is not as its project says.
CREATE TABLE app_access (
    launcher_id TEXT NOT NULL PRIMARY KEY REFERENCES launchers (id) ON DELETE CASCADE,
    open_to TEXT NOT NULL
);

-- Those who are named there: each is a person or a group.
CREATE TABLE app_guests (
    launcher_id TEXT NOT NULL REFERENCES launchers (id) ON DELETE CASCADE,
    user_id TEXT REFERENCES users (id) ON DELETE CASCADE,
    group_id TEXT,
    UNIQUE (launcher_id, user_id),
    UNIQUE (launcher_id, group_id)
);

-- Links and keys are found by the SHA-256 of their secret, in hexadecimal. The secret itself is nowhere.
CREATE TABLE share_links (
    id TEXT NOT NULL PRIMARY KEY,
    launcher_id TEXT NOT NULL REFERENCES launchers (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    created_by TEXT REFERENCES users (id) ON DELETE SET NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    last_used_at BIGINT,
    uses BIGINT NOT NULL
);
CREATE INDEX share_links_by_launcher ON share_links (launcher_id);

CREATE TABLE app_keys (
    id TEXT NOT NULL PRIMARY KEY,
    launcher_id TEXT NOT NULL REFERENCES launchers (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    created_by TEXT REFERENCES users (id) ON DELETE SET NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    last_used_at BIGINT,
    uses BIGINT NOT NULL,
    per_minute BIGINT,
    at_once BIGINT
);
CREATE INDEX app_keys_by_launcher ON app_keys (launcher_id);
