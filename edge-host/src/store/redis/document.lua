-- Keeps a document beside the cart of its version. The entry lives no longer for it.
-- ARGV: version, what the document was made from, document
local held = redis.call('HMGET', KEYS[1], '_v', '_k', '_d', '_q')
if held[1] ~= ARGV[1] or held[2] == 'floor' then
  return 0
end
-- Several may have made the same at once. The second must not take it from those who keep it.
if held[3] == ARGV[2] and held[4] == ARGV[3] then
  return 0
end
redis.call('HSET', KEYS[1], '_d', ARGV[2], '_q', ARGV[3])
return 1
