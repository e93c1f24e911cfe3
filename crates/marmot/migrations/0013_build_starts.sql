-- What was begun counts on for its owner when its project is deleted: so its rows do not go with it, and know whose they are.
CREATE TABLE build_starts_of (
    build_id TEXT NOT NULL PRIMARY KEY,
    project_id TEXT NOT NULL,
    namespace TEXT NOT NULL,
    at BIGINT NOT NULL
);
INSERT INTO build_starts_of (build_id, project_id, namespace, at)
    SELECT s.build_id, s.project_id, p.namespace, s.at FROM build_starts s JOIN projects p ON p.id = s.project_id;
DROP TABLE build_starts;
ALTER TABLE build_starts_of RENAME TO build_starts;
CREATE INDEX build_starts_by_namespace ON build_starts (namespace, at);
CREATE INDEX build_starts_by_age ON build_starts (at);
