-- The image that a build pulls, and what has been said about it: JSON, read and written as a whole. Absent where code is
-- built.
ALTER TABLE builds ADD COLUMN image TEXT;
