-- Begins a generation of carts: those before it are never looked for again, and expire.
-- The clock keeps the number new also when everything was forgotten: somebody may still believe in an old one. In
-- microseconds, because it must be ahead of all who have begun one since.
-- ARGV: epoch, seq, the whole position
local time = redis.call('TIME')
local generation = time[1] * 1000000 + time[2]
local held = tonumber(redis.call('HGET', KEYS[1], 'generation') or 0) or 0
generation = string.format('%.0f', math.max(generation, held + 1))
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'generation', generation, 'seq', ARGV[2], 'position', ARGV[3])
return {ARGV[1], generation, ARGV[3]}
