-- How the replicas of a launcher's app follow demand, as far as somebody has said so: JSON, read and written as a whole.
CREATE TABLE scaling (
    launcher_id TEXT NOT NULL PRIMARY KEY REFERENCES launchers (id) ON DELETE CASCADE,
    settings TEXT NOT NULL
);
