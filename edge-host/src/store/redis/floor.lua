-- Puts a floor in, if nothing as new is held. Tickets that are out stay good: they may bring what is as new.
-- ARGV: a life to begin where there is none, milliseconds to live, version
local version = ARGV[3]
local held = redis.call('HMGET', KEYS[1], '_t', '_v')
if not newer(version, held[2]) then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], '_t', held[1] or ARGV[1], '_v', version, '_k', 'floor')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
