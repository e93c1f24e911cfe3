-- The language that a person reads the pages in; what the browser asks for, where it is not said.
ALTER TABLE users ADD COLUMN language TEXT;
