CREATE INDEX admin_keys_by_expiry ON admin_keys (expires_at);
