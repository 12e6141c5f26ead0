-- What to give back to stock when an order is cancelled.
CREATE TABLE IF NOT EXISTS order_items (
    order_id VARCHAR(64) NOT NULL,
    item_id  VARCHAR(64) NOT NULL,
    quantity INT UNSIGNED NOT NULL,
    PRIMARY KEY (order_id, item_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin;
