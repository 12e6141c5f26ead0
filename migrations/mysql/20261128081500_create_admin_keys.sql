-- Idempotency keys of changes that the merchant and the payment service make: items, stock, coupons, orders.
-- `fingerprint` tells one request from another under the same key; `route` and `done_at` say what was done under it.
CREATE TABLE IF NOT EXISTS admin_keys (
    idempotency_key VARCHAR(255) NOT NULL PRIMARY KEY,
    fingerprint     BINARY(32) NOT NULL,
    route           VARCHAR(200) NOT NULL,
    done_at         BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL,
    INDEX admin_keys_by_expiry (expires_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin;
