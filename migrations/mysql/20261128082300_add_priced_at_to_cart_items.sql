-- When `price` was stored. Null in lines of the version before: then it was when the line was added (`created_at`).
-- Instant, however large the table is.
ALTER TABLE cart_items ADD COLUMN priced_at BIGINT;
