-- What an administrator has said about the limits of one project: JSON, read and written as a whole.
CREATE TABLE project_limits (
    project_id TEXT NOT NULL PRIMARY KEY REFERENCES projects (id) ON DELETE CASCADE,
    limits TEXT NOT NULL
);

-- When builds of a project were begun, for as long as that counts. Apart from the builds, which go with their launchers.
CREATE TABLE build_starts (
    build_id TEXT NOT NULL PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    at BIGINT NOT NULL
);
CREATE INDEX build_starts_by_project ON build_starts (project_id, at);
