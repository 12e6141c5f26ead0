-- `value` is JSON: a percentage, or an amount of one currency.
CREATE TABLE IF NOT EXISTS coupons (
    code            VARCHAR(64) NOT NULL PRIMARY KEY,
    value           VARCHAR(200) NOT NULL,
    starts_at       BIGINT,
    ends_at         BIGINT,
    redemptions_max INT UNSIGNED,
    redemptions     INT UNSIGNED NOT NULL,
    changed_at      BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin;
