-- What to give back to stock when an order is cancelled.
CREATE TABLE order_items (
    order_id TEXT NOT NULL REFERENCES orders (order_id),
    item_id  TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    PRIMARY KEY (order_id, item_id)
) STRICT, WITHOUT ROWID;
