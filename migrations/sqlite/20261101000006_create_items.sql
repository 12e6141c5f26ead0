CREATE TABLE items (
    item_id      TEXT PRIMARY KEY,
    title        TEXT NOT NULL,
    prices       TEXT NOT NULL,
    stock        INTEGER NOT NULL CHECK (stock >= 0),
    quantity_max INTEGER,
    tax_zero     INTEGER NOT NULL,
    tags         TEXT NOT NULL,
    changed_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
