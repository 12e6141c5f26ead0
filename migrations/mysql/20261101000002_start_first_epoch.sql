INSERT IGNORE INTO cluster (id, epoch) VALUES (1, 1);
