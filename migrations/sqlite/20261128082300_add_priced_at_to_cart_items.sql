-- When `unit_price` was stored. Null in lines of the version before: then it was when the line was added (`added_at`).
ALTER TABLE cart_items ADD COLUMN priced_at INTEGER;
