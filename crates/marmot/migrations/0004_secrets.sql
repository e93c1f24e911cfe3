-- Secrets of projects and launchers: `owner` is the id of the launcher, or of the project where it is for all of its
-- launchers. `sealed` is made by the vault, and can be opened only with a key that is not in this database.
CREATE TABLE secrets (
    id TEXT NOT NULL PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    launcher_id TEXT REFERENCES launchers (id) ON DELETE CASCADE,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    form TEXT NOT NULL,
    sealed TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (owner, name)
);
CREATE INDEX secrets_by_project ON secrets (project_id);

-- What a project shows to the hosts of its repositories and images. Each is for one host, and for no other.
CREATE TABLE credentials (
    id TEXT NOT NULL PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    host TEXT NOT NULL,
    username TEXT NOT NULL,
    sealed TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (project_id, kind, host)
);

-- What code hosting sites sign their messages with when somebody pushes, by launcher.
CREATE TABLE hooks (
    launcher_id TEXT NOT NULL PRIMARY KEY REFERENCES launchers (id) ON DELETE CASCADE,
    sealed TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    heard_at BIGINT,
    heard TEXT
);

-- Why starting a revision was given up before it was ever ready: JSON. An app that ran another one goes on with that.
ALTER TABLE revisions ADD COLUMN failed TEXT;
