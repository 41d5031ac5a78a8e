//go:build unix

package postgres_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/source/outbox"
	"github.com/peald/peald/internal/source/postgres"
	"github.com/peald/peald/internal/sourcetest"
	"github.com/peald/peald/internal/testbed"
)

// BenchmarkReader measures how fast a reader publishes and deletes rows.
func BenchmarkReader(b *testing.B) {
	server := sourcetest.StartPostgres(b)
	conn, database := server.NewDatabase(b, schema(""))
	if _, err := conn.Exec(b.Context(), "INSERT INTO peald_outbox (topic, data) SELECT 'topic' || n % 100, repeat('x', 100) FROM generate_series(1, $1) AS n", b.N); err != nil {
		b.Fatal(err)
	}

	events := broker.New(broker.Config{Shards: 1, QueueBytes: 1 << 20, History: broker.History{MaxEvents: 10_000, MaxBytes: 64 << 20}, IdempotencyWindow: 5 * time.Minute})
	defer events.Close()

	ctx, stop := context.WithCancel(b.Context())
	defer stop()

	manager := source.NewManager(source.Config{Publisher: source.LocalPublisher{Broker: events}})
	cfg := postgres.Config{URL: server.URL("postgres", database), Table: outbox.DefaultTable}
	manager.Reconfigure([]source.Source{{Name: "orders", Kind: cfg}})
	b.ResetTimer()
	var running sync.WaitGroup
	running.Go(func() { manager.Run(ctx) })
	if !testbed.Eventually(5*time.Minute, func() bool {
		all := manager.Statuses()
		return len(all) == 1 && all[0].Published >= int64(b.N)
	}) {
		b.Fatalf("status %+v", manager.Statuses())
	}
	b.StopTimer()
	stop()
	running.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
