-- How requests to a launcher's app are treated, where something was said about it: JSON, read and written as a whole.
CREATE TABLE app_traffic (
    launcher_id TEXT NOT NULL PRIMARY KEY REFERENCES launchers (id) ON DELETE CASCADE,
    settings TEXT NOT NULL
);
