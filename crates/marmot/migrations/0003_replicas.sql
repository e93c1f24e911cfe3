-- What the apps of a launcher may reach of other machines.
ALTER TABLE launchers ADD COLUMN network TEXT NOT NULL DEFAULT '{"outbound":"internet"}';
