-- `fingerprint` tells one request from another under the same key; `answer` is JSON.
CREATE TABLE IF NOT EXISTS idempotency_keys (
    cart_id         VARCHAR(40) NOT NULL,
    idempotency_key VARCHAR(255) NOT NULL,
    fingerprint     BINARY(32) NOT NULL,
    answer          MEDIUMTEXT NOT NULL,
    expires_at      BIGINT NOT NULL,
    PRIMARY KEY (cart_id, idempotency_key),
    INDEX idempotency_keys_by_expiry (expires_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin;
