-- `document` is the public order as JSON, without its state.
CREATE TABLE IF NOT EXISTS orders (
    order_id   VARCHAR(64) NOT NULL PRIMARY KEY,
    cart_id    VARCHAR(40) NOT NULL,
    state      VARCHAR(16) NOT NULL CHECK (state IN ('pending_payment', 'paid', 'cancelled')),
    document   MEDIUMTEXT NOT NULL,
    placed_at  BIGINT NOT NULL,
    settled_at BIGINT,
    INDEX orders_by_cart (cart_id, order_id),
    INDEX orders_by_state (state, placed_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin;
