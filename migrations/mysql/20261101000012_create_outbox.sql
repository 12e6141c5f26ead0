-- What the regions follow. A place is given out when its row is written and seen when that is committed, so a later
-- one may be seen first. `payload` is JSON.
CREATE TABLE IF NOT EXISTS outbox (
    seq     BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    at      BIGINT NOT NULL,
    payload TEXT NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin;
