CREATE INDEX orders_by_cart ON orders (cart_id, order_id);
