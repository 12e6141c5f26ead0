-- Puts a cart in, if the entry still lives and holds nothing newer. A floor of its version gives way to it.
-- ARGV: life, milliseconds to live, version, kind, then more fields with their values
local life, ttl, version, kind = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local held = redis.call('HMGET', KEYS[1], '_t', '_v', '_k')
if held[1] ~= life then
  return 0
end
if not newer(version, held[2]) and not (version == held[2] and held[3] == 'floor') then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], '_t', life, '_v', version, '_k', kind, unpack(ARGV, 5))
redis.call('PEXPIRE', KEYS[1], ttl)
return 1
