-- Idempotency keys of changes that the merchant and the payment service make: items, stock, coupons, orders.
-- `fingerprint` tells one request from another under the same key; `route` and `done_at` say what was done under it.
CREATE TABLE admin_keys (
    key         TEXT PRIMARY KEY,
    fingerprint BLOB NOT NULL,
    route       TEXT NOT NULL,
    done_at     INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
