-- Which redemptions to give back when an order is cancelled.
CREATE TABLE IF NOT EXISTS order_coupons (
    order_id VARCHAR(64) NOT NULL,
    code     VARCHAR(64) NOT NULL,
    PRIMARY KEY (order_id, code)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin;
