-- One row. `outbox_swept`: the last place in the feed that was swept away; whoever has not come so far has missed it.
CREATE TABLE IF NOT EXISTS cluster (
    id           TINYINT UNSIGNED NOT NULL PRIMARY KEY CHECK (id = 1),
    epoch        INT UNSIGNED NOT NULL,
    outbox_swept BIGINT UNSIGNED NOT NULL DEFAULT 0
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin;
