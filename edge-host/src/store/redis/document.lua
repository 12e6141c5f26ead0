-- Keeps a document beside the cart of its version. The entry lives no longer for it.
-- ARGV: version, what the document was made from, document
local held = redis.call('HMGET', KEYS[1], '_v', '_k')
if held[1] ~= ARGV[1] or held[2] == 'floor' then
  return 0
end
redis.call('HSET', KEYS[1], '_d', ARGV[2], '_q', ARGV[3])
return 1
