CREATE INDEX carts_by_expiry ON carts (expires_at);
