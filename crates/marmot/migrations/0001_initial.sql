-- One text for SQLite and PostgreSQL: ids are ULIDs as TEXT, times are milliseconds since 1970 as BIGINT, flags are
-- BIGINT 0 or 1, and what is only ever read and written as a whole is JSON in TEXT.

CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    username TEXT NOT NULL UNIQUE,
    password_hash TEXT,
    is_admin BIGINT NOT NULL,
    email TEXT,
    first_name TEXT,
    last_name TEXT,
    created_at BIGINT NOT NULL
);

-- Tokens and sessions are found by the SHA-256 of their text, in hexadecimal. The text itself is nowhere.
CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    last_used_at BIGINT
);
CREATE INDEX tokens_by_user ON tokens (user_id);

CREATE TABLE sessions (
    hash TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_end ON sessions (expires_at);

CREATE TABLE projects (
    id TEXT NOT NULL PRIMARY KEY,
    namespace TEXT NOT NULL,
    slug TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    visibility TEXT NOT NULL,
    repositories TEXT NOT NULL,
    created_by TEXT NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    UNIQUE (namespace, slug)
);

CREATE TABLE members (
    project_id TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    PRIMARY KEY (project_id, user_id)
);
CREATE INDEX members_by_user ON members (user_id);

-- Every name that an app ever had. Never deleted: the logs of an app that is gone, and what the browsers of its visitors
-- keep for its address, must not fall to another.
CREATE TABLE app_names (
    name TEXT NOT NULL PRIMARY KEY
);

CREATE TABLE launchers (
    id TEXT NOT NULL PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    description TEXT,
    kind TEXT NOT NULL,
    app_name TEXT NOT NULL UNIQUE REFERENCES app_names (name),
    variables TEXT NOT NULL,
    resource_class_id BIGINT NOT NULL,
    created_by TEXT NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX launchers_by_project ON launchers (project_id);

CREATE TABLE environments (
    id TEXT NOT NULL PRIMARY KEY,
    launcher_id TEXT NOT NULL UNIQUE REFERENCES launchers (id) ON DELETE CASCADE,
    source TEXT NOT NULL
);

CREATE TABLE builds (
    id TEXT NOT NULL PRIMARY KEY,
    environment_id TEXT NOT NULL REFERENCES environments (id) ON DELETE CASCADE,
    code TEXT NOT NULL,
    command_given BIGINT NOT NULL,
    status TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at BIGINT,
    result TEXT NOT NULL
);
CREATE INDEX builds_by_environment ON builds (environment_id, id);
CREATE INDEX builds_by_status ON builds (status);

CREATE TABLE revisions (
    id TEXT NOT NULL PRIMARY KEY,
    launcher_id TEXT NOT NULL REFERENCES launchers (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    build_id TEXT REFERENCES builds (id) ON DELETE CASCADE,
    program TEXT NOT NULL,
    variables TEXT NOT NULL,
    resource_class_id BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    ready_at BIGINT,
    UNIQUE (launcher_id, number)
);

CREATE TABLE apps (
    launcher_id TEXT NOT NULL PRIMARY KEY REFERENCES launchers (id) ON DELETE CASCADE,
    activated_by TEXT NOT NULL REFERENCES users (id),
    activated_at BIGINT NOT NULL,
    wanted_revision_id TEXT REFERENCES revisions (id),
    awaited_build_id TEXT REFERENCES builds (id),
    retry BIGINT NOT NULL
);

CREATE TABLE events (
    id TEXT NOT NULL PRIMARY KEY,
    launcher_id TEXT NOT NULL REFERENCES launchers (id) ON DELETE CASCADE,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    message TEXT NOT NULL,
    username TEXT
);
CREATE INDEX events_by_launcher ON events (launcher_id, id);
