CREATE TABLE IF NOT EXISTS rule_revisions (
    revision     CHAR(64) NOT NULL PRIMARY KEY,
    component    MEDIUMBLOB NOT NULL,
    activated_at BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin;
