-- Which redemptions to give back when an order is cancelled.
CREATE TABLE order_coupons (
    order_id TEXT NOT NULL REFERENCES orders (order_id),
    code     TEXT NOT NULL,
    PRIMARY KEY (order_id, code)
) STRICT, WITHOUT ROWID;
