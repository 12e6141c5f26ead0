-- What the regions follow. AUTOINCREMENT, so that a place in the feed is never given out twice.
CREATE TABLE outbox (
    seq    INTEGER PRIMARY KEY AUTOINCREMENT,
    at     INTEGER NOT NULL,
    change TEXT NOT NULL
) STRICT;
