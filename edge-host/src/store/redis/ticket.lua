-- Returns the life of a cart's entry, and begins one where there is none.
-- ARGV: a life to begin, milliseconds to live
local life = redis.call('HGET', KEYS[1], '_t')
if not life then
  life = ARGV[1]
  redis.call('HSET', KEYS[1], '_t', life)
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return life
