-- The server that took the last beat, by its `server_uuid`, and the epoch in which it did: the primary of that epoch. A
-- replica has the same row, so it says of itself that it is not the primary, also when it was made writable by hand.
-- Null before the first beat of an edge that writes them. One row; instant.
ALTER TABLE heartbeat ADD COLUMN server CHAR(36), ADD COLUMN server_epoch INT UNSIGNED;
