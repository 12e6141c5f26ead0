INSERT IGNORE INTO heartbeat (id, seq, at) VALUES (1, 0, 0);
