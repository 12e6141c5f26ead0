CREATE TABLE idempotency_keys (
    cart_id     TEXT NOT NULL,
    key         TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    answer      TEXT NOT NULL,
    expires_at  INTEGER NOT NULL,
    PRIMARY KEY (cart_id, key)
) STRICT, WITHOUT ROWID;
