-- What was answered to requests that may come again: kept for a day, by who asked and a hash of the key that they came with.
-- No status: it is being answered. A status without a body: the answer held a secret, and was not kept.
CREATE TABLE answers (
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    request TEXT NOT NULL,
    at BIGINT NOT NULL,
    status BIGINT,
    etag TEXT,
    body TEXT,
    PRIMARY KEY (user_id, key)
);
CREATE INDEX answers_by_age ON answers (at);
