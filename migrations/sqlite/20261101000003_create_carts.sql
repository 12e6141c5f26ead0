-- The row of a cart is never deleted while its version matters: an emptied cart is version + 1.
CREATE TABLE carts (
    cart_id    TEXT PRIMARY KEY,
    owner_kind TEXT NOT NULL CHECK (owner_kind IN ('guest', 'user')),
    owner_id   TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('active', 'merged')),
    currency   TEXT NOT NULL,
    version    INTEGER NOT NULL,
    coupons    TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    view_digest TEXT
) STRICT;
