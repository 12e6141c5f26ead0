CREATE TABLE coupons (
    code            TEXT PRIMARY KEY,
    value           TEXT NOT NULL,
    starts_at       INTEGER,
    ends_at         INTEGER,
    redemptions_max INTEGER,
    redemptions     INTEGER NOT NULL,
    changed_at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
