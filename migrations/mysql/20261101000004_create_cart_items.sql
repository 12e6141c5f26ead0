-- `variant_data` is JSON as text: a JSON column would order keys and round numbers anew, and the name of a line is made
-- of the very text. No foreign keys: a line is only ever written with its cart's row locked.
CREATE TABLE IF NOT EXISTS cart_items (
    cart_id      VARCHAR(40) NOT NULL,
    line_id      VARCHAR(64) NOT NULL,
    item_id      VARCHAR(64) NOT NULL,
    quantity     SMALLINT UNSIGNED NOT NULL CHECK (quantity BETWEEN 1 AND 999),
    price        DECIMAL(19, 4) NOT NULL CHECK (price >= 0),
    variant_data VARCHAR(1024) NOT NULL,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    PRIMARY KEY (cart_id, line_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin;
