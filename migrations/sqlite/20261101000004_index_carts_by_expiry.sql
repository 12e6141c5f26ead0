CREATE INDEX carts_by_expiry ON carts (state, expires_at);
