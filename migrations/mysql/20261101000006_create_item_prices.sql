CREATE TABLE IF NOT EXISTS item_prices (
    item_id  VARCHAR(64) NOT NULL,
    currency CHAR(3) NOT NULL,
    price    DECIMAL(19, 4) NOT NULL CHECK (price >= 0),
    PRIMARY KEY (item_id, currency)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin;
