CREATE INDEX orders_unpaid ON orders (placed_at) WHERE state = 'pending_payment';
