-- One row, which home writes a few times a second: what it says at a replica is how far that has come. `seq` counts
-- the beats; `at` is home's clock.
CREATE TABLE IF NOT EXISTS heartbeat (
    id  TINYINT UNSIGNED NOT NULL PRIMARY KEY CHECK (id = 1),
    seq BIGINT UNSIGNED NOT NULL,
    at  BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin;
