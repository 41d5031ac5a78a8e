package redis

import goredis "github.com/redis/go-redis/v9"

// acquireScript acquires a lock that doesn't exist or has the previous token. It returns
// 0 if it has another one.
//
// KEYS: lock. ARGV: token, previous token, milliseconds.
func acquireScript() *goredis.Script {
	return goredis.NewScript(`
		local holder = redis.call('GET', KEYS[1])
		if holder and holder ~= ARGV[2] then return 0 end
		redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
		return 1`)
}

// renewScript extends a lock. It returns 0 if the token isn't the lock's.
//
// KEYS: lock. ARGV: token, milliseconds.
func renewScript() *goredis.Script {
	return goredis.NewScript(`
		if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
		return redis.call('PEXPIRE', KEYS[1], ARGV[2])`)
}

// releaseScript deletes a lock if the token is the lock's.
//
// KEYS: lock. ARGV: token.
func releaseScript() *goredis.Script {
	return goredis.NewScript(`
		if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
		return redis.call('DEL', KEYS[1])`)
}

// readScript reads entries that no consumer has read. It returns 0 if the token isn't the
// lock's.
//
// KEYS: lock, stream. ARGV: token, group, consumer, maximum number of entries.
func readScript() *goredis.Script {
	return goredis.NewScript(`
		if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
		local reply = redis.call('XREADGROUP', 'GROUP', ARGV[2], ARGV[3], 'COUNT', ARGV[4], 'STREAMS', KEYS[2], '>')
		if not reply then return {} end
		return reply[1][2]`)
}

// claimScript transfers entries that were read, but not acknowledged, to a consumer. It
// returns the reply of XAUTOCLAIM, or 0 if the token isn't the lock's.
//
// KEYS: lock, stream. ARGV: token, group, consumer, maximum number of entries, start.
func claimScript() *goredis.Script {
	return goredis.NewScript(`
		if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
		return redis.call('XAUTOCLAIM', KEYS[2], ARGV[2], ARGV[3], 0, ARGV[5], 'COUNT', ARGV[4])`)
}

// tidyScript removes consumers with the given prefix that hold no entries, except the
// given consumer. It returns the number of consumers that were removed.
//
// KEYS: stream. ARGV: group, prefix, consumer.
func tidyScript() *goredis.Script {
	//nolint:dupword // Nested blocks end like this in Lua.
	return goredis.NewScript(`
		local removed = 0
		for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
			local c = {}
			for i = 1, #row, 2 do c[row[i]] = row[i + 1] end
			if c.pending == 0 and c.name ~= ARGV[3] and string.sub(c.name, 1, #ARGV[2]) == ARGV[2] then
				redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], c.name)
				removed = removed + 1
			end
		end
		return removed`)
}
