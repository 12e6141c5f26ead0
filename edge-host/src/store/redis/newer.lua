-- Versions are `epoch.number`; the epoch counts first. What is not a version is older than any.
local function newer(version, held)
  local epoch, number = string.match(version, '^(%d+)%.(%d+)$')
  local held_epoch, held_number = string.match(held or '', '^(%d+)%.(%d+)$')
  if not held_epoch then
    return true
  end
  if epoch ~= held_epoch then
    return tonumber(epoch) > tonumber(held_epoch)
  end
  return tonumber(number) > tonumber(held_number)
end
