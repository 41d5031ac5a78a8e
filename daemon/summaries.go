package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/ssehttp"
)

// troubleEvery is how often is looked for what an operator should know of, and
// so the most often that each is logged: thousands of clients may be met by it
// in a second.
const troubleEvery = 10 * time.Second

// troubles count, since the start, what clients were met by for want of
// something that an operator can give.
type troubles struct {
	full, tooFast, slow, stuck int64
}

func (p *parts) troubles() troubles {
	refused := p.refused()
	ended := p.broker.Stats().Total.Disconnected
	return troubles{
		full:    refused[ssehttp.Full.String()],
		tooFast: refused[ssehttp.Rate.String()],
		slow:    ended[broker.SlowConsumer.String()],
		stuck:   ended[broker.WriteTimeout.String()],
	}
}

// tellTroubles logs what has come to the troubles since the last look, until
// ctx ends.
func tellTroubles(ctx context.Context, log *slog.Logger, read func() troubles) {
	tick := time.NewTicker(troubleEvery)
	defer tick.Stop()
	for before := read(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := read()
		for _, t := range []struct {
			n    int64
			what string
		}{
			{now.full - before.full, "streams were refused: there are as many as sse.max_connections or the limit of file descriptors allows"},
			{now.tooFast - before.tooFast, "streams were refused: more came in a second than sse.max_connects_per_second"},
			{now.slow - before.slow, "streams were ended for being slow: more waited for them than broker.queue_bytes"},
			{now.stuck - before.stuck, "streams were ended: their sockets took nothing for sse.write_timeout"},
		} {
			if t.n > 0 {
				log.Warn(t.what, "streams", t.n, "within", troubleEvery.String())
			}
		}
		before = now
	}
}
