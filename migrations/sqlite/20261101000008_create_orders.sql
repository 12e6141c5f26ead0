CREATE TABLE orders (
    order_id   TEXT PRIMARY KEY,
    cart_id    TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('pending_payment', 'paid', 'cancelled')),
    document   TEXT NOT NULL,
    placed_at  INTEGER NOT NULL,
    settled_at INTEGER
) STRICT, WITHOUT ROWID;
