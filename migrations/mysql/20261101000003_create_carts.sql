-- The row of a cart is never deleted while its version matters: an emptied cart is version + 1. Version 0 is a row
-- that was only there to be locked. `coupons` is a JSON array.
CREATE TABLE IF NOT EXISTS carts (
    cart_id     VARCHAR(40) NOT NULL PRIMARY KEY,
    owner_kind  VARCHAR(8) NOT NULL CHECK (owner_kind IN ('guest', 'user')),
    owner_id    VARCHAR(128) NOT NULL,
    state       VARCHAR(8) NOT NULL CHECK (state IN ('active', 'merged')),
    currency    CHAR(3) NOT NULL,
    version     BIGINT UNSIGNED NOT NULL,
    item_count  INT UNSIGNED NOT NULL,
    coupons     TEXT NOT NULL,
    updated_at  BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    view_digest CHAR(32),
    INDEX carts_by_expiry (state, expires_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin;
