package redis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/peald/peald/internal/source"
)

const (
	// A batch has up to maxBatch entries, and about batchBytes if the next entries are as
	// large as the last ones. The first batch has firstBatch entries, because their size
	// isn't known.
	firstBatch = 16
	maxBatch   = 1000
	batchBytes = 1 << 20

	// A command waits up to waitTime for entries. Afterwards the group is checked.
	waitTime = 5 * time.Second
	// tidyTime limits how long it takes to remove consumers of nodes that are gone.
	tidyTime = time.Second
)

// noID is smaller than any entry's id.
const noID = "0-0"

// stream reads one stream. It is owned by the goroutine that runs it.
type stream struct {
	*reader

	name     string
	commands goredis.UniversalClient
	waits    goredis.UniversalClient // for commands that wait; closed when the reader is stopped
	sink     *source.Sink
	held     *heldStreams

	// graceful ends some time after the reader has been stopped, so that entries whose
	// messages have been published are acknowledged.
	graceful context.Context //nolint:containedctx // It differs from the one that the reader is stopped with.

	lock    *lock
	token   *string // the last lock's, which is kept while the reader isn't running
	batch   int     // number of entries to read next
	read    string  // last id that the group has read
	settled string  // last id that was acknowledged; empty if unknown
}

// run reads the stream until ctx ends or something fails, whenever it can acquire the
// lock.
func (s *stream) run(ctx context.Context) error {
	for {
		if err := s.acquire(ctx); err != nil {
			return stopped(ctx, err)
		}

		err := s.lead(ctx)
		if !errors.Is(err, errLockLost) {
			return stopped(ctx, err)
		}
		s.log.Warn("source lost its lock", "stream", s.name)
	}
}

// stopped returns nil in place of an error that the end of ctx has caused.
func stopped(ctx context.Context, err error) error {
	if _, unavailable := errors.AsType[*source.UnavailableError](err); ctx.Err() != nil && !unavailable {
		return nil
	}

	return err
}

// acquire waits until this reader holds the stream's lock.
func (s *stream) acquire(ctx context.Context) error {
	for {
		l, ok, err := tryLock(ctx, s.commands, lockKey(s.name, s.cfg.Group), *s.token)
		if err != nil {
			return err
		}
		if ok {
			s.lock, *s.token = l, l.token
			return nil
		}
		s.held.wait()

		// Readers that were started at the same time try at different times.
		delay := acquireInterval/2 + rand.N(acquireInterval)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(delay):
		}
	}
}

// lead reads the stream while the reader holds the lock.
func (s *stream) lead(ctx context.Context) error {
	leading, stop := context.WithCancelCause(ctx)

	var keeping sync.WaitGroup
	keeping.Go(func() { stop(s.lock.keep(leading)) })

	s.held.add(s.name)
	err := s.follow(leading)
	s.held.remove(s.name)

	// If the lock couldn't be kept, that is the reason for all that failed afterwards.
	if cause := context.Cause(leading); cause != nil && ctx.Err() == nil {
		err = cause
	}
	stop(nil)
	keeping.Wait()

	if releaseErr := s.lock.release(s.graceful); err == nil {
		err = releaseErr
	}

	return err
}

// follow publishes the entries that were read but not acknowledged, and then the others,
// until ctx ends or something fails. It starts again if the group is missing, as after
// FLUSHALL.
func (s *stream) follow(ctx context.Context) error {
	for {
		err := s.join(ctx)
		if err == nil {
			err = s.claim(ctx)
		}
		for err == nil {
			err = s.next(ctx)
		}

		if !isMissing(err) {
			return err
		}
	}
}

// join creates the group if it doesn't exist, and finds out what it has read.
func (s *stream) join(ctx context.Context) error {
	start, err := s.start(ctx)
	if err != nil {
		return err
	}

	err = s.commands.XGroupCreateMkStream(ctx, s.name, s.cfg.Group, start).Err()

	switch {
	case err == nil:
		s.log.Info("source created its consumer group", "stream", s.name, "group", s.cfg.Group, "after", start)
	case !goredis.HasErrorPrefix(err, "BUSYGROUP"):
		return fmt.Errorf("creating the consumer group: %w", err)
	}

	group, err := s.group(ctx, s.commands, s.name)
	if err != nil {
		return fmt.Errorf("reading the consumer group: %w", err)
	}
	s.read = group.LastDeliveredID
	s.tidy(ctx)

	return nil
}

// start returns the id after which a new group reads the stream. If a group has been
// removed, the new one continues where the reader was. If the stream has been removed
// too, the group reads the new one from its beginning, as it does without an earlier
// group.
func (s *stream) start(ctx context.Context) (string, error) {
	if s.settled == "" {
		return noID, nil
	}

	info, err := s.commands.XInfoStream(ctx, s.name).Result()

	switch {
	case goredis.HasErrorPrefix(err, "no such key"):
		return noID, nil
	case err != nil:
		return "", fmt.Errorf("reading the stream's state: %w", err)
	case after(s.settled, info.LastGeneratedID):
		return noID, nil
	}

	return s.settled, nil
}

// tidy removes the consumers of nodes that are gone. Failing to do so does no harm.
func (s *stream) tidy(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, tidyTime)
	defer cancel()

	removed, err := tidyScript().Run(ctx, s.commands, []string{s.name}, s.cfg.Group, consumerPrefix, s.consumer).Int()
	s.log.Debug("idle consumers removed", "stream", s.name, "consumers", removed, "error", err)
}

// claim publishes the entries that were read, but not acknowledged, by an earlier reader
// or through an earlier connection.
func (s *stream) claim(ctx context.Context) error {
	for start := noID; ; {
		reply, err := s.script(ctx, claimScript(), s.batch, start)
		if err != nil {
			return fmt.Errorf("claiming entries (XAUTOCLAIM): %w", err)
		}

		parts, ok := reply.([]any)
		if !ok || len(parts) < 2 {
			return fmt.Errorf("claiming entries (XAUTOCLAIM): %w: %T", errReply, reply)
		}

		entries, err := parseEntries(parts[1])
		if err != nil {
			return fmt.Errorf("claiming entries (XAUTOCLAIM): %w", err)
		}
		if len(parts) > 2 {
			if deleted, _ := parts[2].([]any); len(deleted) > 0 {
				s.log.Warn("source entries deleted too early", "stream", s.name, "entries", len(deleted))
			}
		}

		if err := s.publish(ctx, entries); err != nil {
			return err
		}

		if start, _ = parts[0].(string); start == noID || start == "" {
			return nil
		}
	}
}

// next publishes the next entries. If there are none, it waits for some.
func (s *stream) next(ctx context.Context) error {
	reply, err := s.script(ctx, readScript(), s.batch)
	if err != nil {
		return fmt.Errorf("reading entries (XREADGROUP): %w", err)
	}

	entries, err := parseEntries(reply)
	if err != nil {
		return fmt.Errorf("reading entries (XREADGROUP): %w", err)
	}
	if len(entries) > 0 {
		s.read = entries[len(entries)-1].id
		return s.publish(ctx, entries)
	}

	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}

	// This reads an entry only in order to learn that there is one.
	err = s.waits.XRead(ctx, &goredis.XReadArgs{Streams: []string{s.name, s.read}, Count: 1, Block: waitTime}).Err()
	if err != nil && !errors.Is(err, goredis.Nil) {
		return fmt.Errorf("waiting for entries: %w", err)
	}

	return nil
}

// script runs a script for up to the given number of entries of the stream. It returns
// [errLockLost] if the reader doesn't hold the lock.
func (s *stream) script(ctx context.Context, script *goredis.Script, count int, more ...any) (reply any, err error) {
	args := append([]any{s.lock.token, s.cfg.Group, s.consumer, count}, more...)
	reply, err = script.Run(ctx, s.commands, []string{s.lock.key, s.name}, args...).Result()

	if number, ok := reply.(int64); err == nil && ok && number == 0 {
		return nil, errLockLost
	}

	return reply, err
}

// publish publishes entries and acknowledges those that are settled.
func (s *stream) publish(ctx context.Context, entries []entry) error {
	if len(entries) == 0 {
		return nil
	}

	records, size := make([]source.Record, len(entries)), 0
	for i := range entries {
		records[i] = entries[i].record(s.name)
		size += entries[i].size()
	}
	s.batch = nextBatch(s.batch, size/len(entries))

	settled, err := s.sink.Publish(ctx, records)
	if ackErr := s.acknowledge(entries, settled); ackErr != nil {
		return errors.Join(err, ackErr)
	}

	return err
}

// nextBatch returns the number of entries to read after a batch, from the average size of
// its entries in bytes. It grows slowly, because the next entries may be larger.
func nextBatch(batch, average int) int {
	return min(max(1, batchBytes/max(1, average)), 2*batch, maxBatch)
}

// acknowledge stores rejected entries in the dead-letter stream, and then acknowledges all
// that are settled.
func (s *stream) acknowledge(entries []entry, settled source.Settled) error {
	if settled.Count == 0 {
		return nil
	}

	if err := s.bury(entries, settled.Rejected); err != nil {
		return err
	}

	ids := make([]string, settled.Count)
	for i := range ids {
		ids[i] = entries[i].id
	}

	_, err := s.commands.TxPipelined(s.graceful, func(p goredis.Pipeliner) error {
		p.XAck(s.graceful, s.name, s.cfg.Group, ids...)
		if s.cfg.Delete {
			p.XDel(s.graceful, s.name, ids...)
		}

		return nil
	})
	if err != nil {
		return fmt.Errorf("acknowledging entries: %w", err)
	}
	s.settled = ids[len(ids)-1]

	return nil
}

// bury adds rejected entries to the dead-letter stream, if there is one. Each has its
// fields, and four more about its origin.
func (s *stream) bury(entries []entry, rejected []source.Rejected) error {
	if s.cfg.DeadLetter == "" || len(rejected) == 0 {
		return nil
	}

	_, err := s.commands.Pipelined(s.graceful, func(p goredis.Pipeliner) error {
		for _, r := range rejected {
			e := &entries[r.Index]

			values := make([]any, 0, 2*len(e.fields)+8)
			for _, f := range e.fields {
				values = append(values, f.Name, f.Value)
			}
			values = append(values, "peald-stream", s.name, "peald-group", s.cfg.Group, "peald-id", e.id, "peald-error", r.Err.Error())

			p.XAdd(s.graceful, &goredis.XAddArgs{Stream: s.cfg.DeadLetter, Values: values})
		}

		return nil
	})
	if err != nil {
		return fmt.Errorf("adding to the dead-letter stream %q: %w", s.cfg.DeadLetter, err)
	}

	return nil
}
