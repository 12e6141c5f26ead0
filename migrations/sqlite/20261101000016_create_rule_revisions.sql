CREATE TABLE rule_revisions (
    revision     TEXT PRIMARY KEY,
    component    BLOB NOT NULL,
    activated_at INTEGER NOT NULL
) STRICT;
