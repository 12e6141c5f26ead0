-- `tags` is a JSON array.
CREATE TABLE IF NOT EXISTS items (
    item_id      VARCHAR(64) NOT NULL PRIMARY KEY,
    title        VARCHAR(200) NOT NULL,
    stock        INT UNSIGNED NOT NULL,
    quantity_max INT UNSIGNED,
    tax_zero     BOOLEAN NOT NULL,
    tags         TEXT NOT NULL,
    changed_at   BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin;
