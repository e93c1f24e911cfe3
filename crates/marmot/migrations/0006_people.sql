-- People: where their accounts come from, groups, what tokens and sessions may, one-time links, and who did what.

-- Whoever is disabled cannot sign in; whoever is gone left only this row, for what refers to it.
ALTER TABLE users ADD COLUMN disabled_at BIGINT;
ALTER TABLE users ADD COLUMN deleted_at BIGINT;

-- Every first part of a project's path: a person's name, a group's, or that of one who is gone but whose projects are not.
CREATE TABLE namespaces (
    name TEXT NOT NULL PRIMARY KEY
);
INSERT INTO namespaces (name) SELECT username FROM users;

CREATE TABLE groups (
    id TEXT NOT NULL PRIMARY KEY,
    path TEXT NOT NULL UNIQUE REFERENCES namespaces (name),
    name TEXT NOT NULL,
    description TEXT,
    created_by TEXT NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL
);

CREATE TABLE group_members (
    group_id TEXT NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    PRIMARY KEY (group_id, user_id)
);
CREATE INDEX group_members_by_user ON group_members (user_id);

-- Every role that a person has in a project: their own, and that of the group whose namespace it is in.
CREATE VIEW project_roles AS
    SELECT m.project_id AS project_id, m.user_id AS user_id, m.role AS role FROM members m
    UNION ALL
    SELECT p.id AS project_id, g.user_id AS user_id, g.role AS role
    FROM projects p JOIN groups t ON t.path = p.namespace JOIN group_members g ON g.group_id = t.id;

-- Who somebody is at an identity provider. Never found by a name or an e-mail address.
CREATE TABLE identities (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    label TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    last_used_at BIGINT NOT NULL,
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX identities_by_user ON identities (user_id);

-- Sessions get an id to be named by. Those that are under way get one that cannot be told from others.
ALTER TABLE sessions ADD COLUMN id TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN provider TEXT;
ALTER TABLE sessions ADD COLUMN address TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN agent TEXT NOT NULL DEFAULT '';
UPDATE sessions SET id = '0' || upper(substr(hash, 1, 25));

-- What a token may: `read` or `write`, and perhaps only in one project, or with one launcher and its app.
ALTER TABLE tokens ADD COLUMN access TEXT NOT NULL DEFAULT 'write';
ALTER TABLE tokens ADD COLUMN project_id TEXT REFERENCES projects (id) ON DELETE CASCADE;
ALTER TABLE tokens ADD COLUMN launcher_id TEXT REFERENCES launchers (id) ON DELETE CASCADE;

-- Links that work once: the first administrator's, and those by which people set a password. Found by the SHA-256 of
-- their text, as tokens are.
CREATE TABLE links (
    hash TEXT NOT NULL PRIMARY KEY,
    user_id TEXT UNIQUE REFERENCES users (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- Who did what to which thing, when, and from where. Only ever added to; refers to nothing, to outlive it all.
CREATE TABLE audit (
    id TEXT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    actor_id TEXT,
    actor TEXT NOT NULL,
    via TEXT NOT NULL,
    address TEXT NOT NULL,
    action TEXT NOT NULL,
    kind TEXT NOT NULL,
    target_id TEXT NOT NULL,
    target TEXT NOT NULL,
    project_id TEXT,
    details TEXT NOT NULL
);
CREATE INDEX audit_by_project ON audit (project_id, id);
