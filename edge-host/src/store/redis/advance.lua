-- Moves the place in the feed on, if it is where the caller may move it from; returns where it is then.
-- ARGV: generation, epoch, from, to, the whole position
local at = redis.call('HMGET', KEYS[1], 'epoch', 'generation', 'position', 'seq')
if at[1] == ARGV[2] and at[2] == ARGV[1] then
  -- Of another generation, it was not this one's carts that the caller told.
  local seq = tonumber(at[4])
  if tonumber(ARGV[3]) <= seq and seq <= tonumber(ARGV[4]) then
    redis.call('HSET', KEYS[1], 'seq', ARGV[4], 'position', ARGV[5])
    at[3] = ARGV[5]
  end
end
return {at[1], at[2], at[3]}
