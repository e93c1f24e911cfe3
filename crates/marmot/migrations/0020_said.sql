-- What happened to an app, with what languages other than English say it by: a name and values, as JSON. Absent for what
-- was noted before, and for what has no other words.
ALTER TABLE events ADD COLUMN said TEXT;
