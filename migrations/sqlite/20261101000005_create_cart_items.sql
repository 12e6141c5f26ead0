CREATE TABLE cart_items (
    cart_id    TEXT NOT NULL REFERENCES carts (cart_id),
    line_id    TEXT NOT NULL,
    item_id    TEXT NOT NULL,
    quantity   INTEGER NOT NULL CHECK (quantity BETWEEN 1 AND 999),
    unit_price INTEGER NOT NULL CHECK (unit_price >= 0),
    variant    TEXT NOT NULL,
    added_at   INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (cart_id, line_id)
) STRICT, WITHOUT ROWID;
