package source_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/testbed"
)

// flaky is a [source.Publisher] that is unavailable at times.
type flaky struct {
	mu       sync.Mutex
	unready  error
	results  func(messages []broker.Message) ([]error, error) // nil to publish all
	received []string                                         // the data of published messages
}

func (f *flaky) set(unready error, results func([]broker.Message) ([]error, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.unready, f.results = unready, results
}

func (f *flaky) Ready() error {
	f.mu.Lock()
	defer f.mu.Unlock()

	return f.unready
}

func (f *flaky) PublishInOrder(_ context.Context, messages []broker.Message) (results []error, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	results = make([]error, len(messages))
	if f.results != nil {
		results, err = f.results(messages)
	}
	for i, result := range results {
		if result == nil {
			f.received = append(f.received, messages[i].Data)
		}
	}

	return results, err
}

func (f *flaky) published() []string {
	f.mu.Lock()
	defer f.mu.Unlock()

	return slices.Clone(f.received)
}

func records(values ...string) (all []source.Record) {
	for i, value := range values {
		all = append(all, source.Record{Origin: "t", Offset: fmt.Sprint(i, value), Value: []byte(value)})
	}

	return all
}

// start runs a manager until the test ends. The caller runs in a bubble.
func start(t *testing.T, cfg source.Config, sources ...source.Source) *source.Manager {
	t.Helper()

	ctx, stop := context.WithCancel(t.Context())
	manager := source.NewManager(cfg)
	manager.Reconfigure(sources)

	var running sync.WaitGroup
	running.Go(func() { manager.Run(ctx) })
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	synctest.Wait()

	return manager
}

// pass lets time pass, and waits until everything that is due has been done.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func unavailable() error { return &broker.UnavailableError{Reason: "no leader"} }

// TestPublishInOrder checks that a sink passes what has no result again, and nothing
// else, and that it returns rejected records.
func TestPublishInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		to := &flaky{}
		calls := 0
		to.results = func(messages []broker.Message) ([]error, error) {
			if calls++; calls < 5 {
				// One message at a time, and the second one is rejected.
				var result error
				if messages[0].Data == "b" {
					result = &broker.InvalidError{Field: "data", Reason: "is bad"}
				}

				return []error{result}, unavailable()
			}

			return make([]error, len(messages)), nil
		}

		var settled source.Settled
		var err error
		run := func(ctx context.Context, sink *source.Sink) error {
			sink.Active()
			settled, err = sink.Publish(ctx, records("a", "b", "c", "d", "e", "f"))
			<-ctx.Done()

			return nil
		}
		manager := start(t, source.Config{Publisher: to}, source.Source{Name: "s", Kind: kind{schema: topicSchema(), run: &run}})

		if state := manager.Statuses()[0].State; state != source.StateWaiting {
			t.Errorf("state %q while the publisher is unavailable, want waiting", state)
		}
		pass(time.Minute)

		if err != nil || settled.Count != 6 || len(settled.Rejected) != 1 || settled.Rejected[0].Index != 1 {
			t.Errorf("settled %+v, %v", settled, err)
		}
		if got := strings.Join(to.published(), ""); got != "acdef" {
			t.Errorf("published %q, want acdef", got)
		}
		status := manager.Statuses()[0]
		if status.State != source.StateActive || status.Published != 5 || status.Rejected != 1 || status.LastError != "data is bad" {
			t.Errorf("status %+v", status)
		}
	})
}

// TestUsedKeys checks that a record that was published with another mapping counts as
// published, whereas a key of its own that was used for another message doesn't.
func TestUsedKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for template, rejected := range map[string]int{"": 0, "{offset}": 1} {
			to := &flaky{results: func([]broker.Message) ([]error, error) { return []error{broker.ErrKeyUsed}, nil }}
			var settled source.Settled
			run := func(ctx context.Context, sink *source.Sink) (err error) {
				settled, err = sink.Publish(ctx, records("a"))
				<-ctx.Done()

				return err
			}
			start(t, source.Config{Publisher: to}, source.Source{Name: "s", Kind: kind{schema: topicSchema(), run: &run}, Map: source.Map{IdempotencyKey: template}})

			if settled.Count != 1 || len(settled.Rejected) != rejected {
				t.Errorf("with the key %q: settled %+v, want %d rejected", template, settled, rejected)
			}
		}
	})
}

// TestUnavailable checks that a reader gets an error if nothing can be published for long,
// and is started again once the publisher is ready.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		to := &flaky{}
		to.set(nil, func([]broker.Message) ([]error, error) { return nil, unavailable() })

		var errs []error
		run := func(ctx context.Context, sink *source.Sink) error {
			sink.Active()
			_, err := sink.Publish(ctx, records("a"))
			errs = append(errs, err)
			if err == nil {
				<-ctx.Done()
			}

			return err
		}
		manager := start(t, source.Config{Publisher: to}, source.Source{Name: "s", Kind: kind{schema: topicSchema(), run: &run}})

		pass(time.Minute)
		if len(errs) == 0 {
			t.Fatal("the reader still waits after a minute")
		}
		if _, ok := errors.AsType[*source.UnavailableError](errs[0]); !ok {
			t.Errorf("error %v, want an UnavailableError", errs[0])
		}
		status := manager.Statuses()[0]
		if status.State != source.StateWaiting || status.Failures != 0 {
			t.Errorf("status %+v, want waiting without a failure", status)
		}

		to.set(nil, nil)
		pass(time.Minute)
		if got := to.published(); !slices.Equal(got, []string{"a"}) || errs[len(errs)-1] != nil {
			t.Errorf("published %q, %v; want a", got, errs)
		}
	})
}

// TestNotReady checks that readers run only while messages can be published.
func TestNotReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		to := &flaky{unready: unavailable()}
		running := false
		run := func(ctx context.Context, sink *source.Sink) error {
			running = true
			sink.Active()
			<-ctx.Done()
			running = false

			return context.Cause(ctx)
		}
		manager := start(t, source.Config{Publisher: to}, source.Source{Name: "s", Kind: kind{schema: topicSchema(), run: &run}})

		for range 3 {
			pass(time.Minute)
			if status := manager.Statuses()[0]; running || status.State != source.StateWaiting || status.LastError != "no leader" {
				t.Fatalf("running %t, status %+v while not ready", running, status)
			}

			to.set(nil, nil)
			pass(time.Minute)
			if status := manager.Statuses()[0]; !running || status.State != source.StateActive || status.Failures != 0 {
				t.Fatalf("running %t, status %+v while ready", running, status)
			}
			to.set(unavailable(), nil)
		}
	})
}

// TestFailures checks that a reader is started again after increasing delays.
func TestFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log testbed.Log
		var starts []time.Time
		run := func(context.Context, *source.Sink) error {
			if starts = append(starts, time.Now()); len(starts)%2 == 0 {
				return nil
			}

			return errors.New("connection refused")
		}
		manager := start(t, source.Config{Publisher: &flaky{}, Logger: logger(&log)}, source.Source{Name: "s", Kind: kind{schema: topicSchema(), run: &run}})

		pass(10 * time.Minute)
		status := manager.Statuses()[0]
		if n := int64(len(starts)); n < 20 || n > 60 || status.Failures != n || status.State != source.StateFailed {
			t.Errorf("started %d times in ten minutes, status %+v", n, status)
		}
		if first, last := starts[1].Sub(starts[0]), starts[len(starts)-1].Sub(starts[len(starts)-2]); first > 2*time.Second || last < 5*time.Second {
			t.Errorf("delays from %s to %s", first, last)
		}
		if len(log.With("source failed", "source=s", "connection refused", "retry_in=")) == 0 {
			t.Errorf("log: %s", log.String())
		}
	})
}

// TestReload checks that a reload leaves sources alone that haven't changed, and never
// runs two readers of one source.
func TestReload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		running := make(map[string]int)
		starts := make(map[string]int)
		begin := func(name string) {
			mu.Lock()
			defer mu.Unlock()

			if running[name]++; running[name] > 1 {
				t.Errorf("two readers of %s", name)
			}
			starts[name]++
		}
		end := func(name string) {
			mu.Lock()
			defer mu.Unlock()

			running[name]--
		}
		make1 := func(name, setting, event string) source.Source {
			run := func(ctx context.Context, sink *source.Sink) error {
				begin(name)
				defer end(name)

				if _, err := sink.Publish(ctx, records("x")); err != nil {
					t.Error(err)
				}
				<-ctx.Done()
				time.Sleep(time.Second) // acknowledges something

				return context.Cause(ctx)
			}

			return source.Source{Name: name, Kind: kind{setting: setting, schema: topicSchema(), run: &run}, Map: source.Map{Event: event}}
		}

		a, b := make1("a", "1", ""), make1("b", "1", "")
		manager := start(t, source.Config{Publisher: &flaky{}}, a, b)

		changed := make1("b", "2", "")
		manager.Reconfigure([]source.Source{changed, a})
		pass(time.Minute)
		if starts["a"] != 1 || starts["b"] != 2 {
			t.Errorf("started %v", starts)
		}
		if all := manager.Statuses(); all[0].Name != "b" || all[0].Published != 2 || all[1].Name != "a" {
			t.Errorf("statuses %+v; want b, with both records, and a", all)
		}

		mapped := a
		mapped.Map.Event = "e"
		manager.Reconfigure([]source.Source{mapped})
		pass(time.Minute)
		if starts["a"] != 2 || running["b"] != 0 || len(manager.Statuses()) != 1 {
			t.Errorf("started %v, running %v", starts, running)
		}

		// A source that is configured again while its reader is still stopping.
		manager.Reconfigure(nil)
		synctest.Wait()
		manager.Reconfigure([]source.Source{a})
		pass(time.Minute)
		if starts["a"] != 3 || running["a"] != 1 {
			t.Errorf("started %v, running %v after a source was configured again", starts, running)
		}

		manager.Reconfigure(nil)
		pass(time.Minute)
		if running["a"] != 0 || len(manager.Statuses()) != 0 {
			t.Errorf("running %v after all sources were removed", running)
		}
	})
}

// TestRejectedRecordsInLog checks that rejected records are logged, but not all of them,
// and without their content.
func TestRejectedRecordsInLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log testbed.Log
		run := func(ctx context.Context, sink *source.Sink) error {
			bad := make([]source.Record, 1000)
			for i := range bad {
				bad[i] = source.Record{Origin: "t", Offset: fmt.Sprint(i), Value: []byte("\xffsecret")}
			}
			_, err := sink.Publish(ctx, bad)
			<-ctx.Done()

			return err
		}
		manager := start(t, source.Config{Publisher: &flaky{}, Logger: logger(&log)}, source.Source{Name: "s", Kind: kind{schema: topicSchema(), run: &run}})

		if n := len(log.With("record rejected", "source=s", "origin=t", "offset=", "not valid UTF-8")); n == 0 || n > 20 || strings.Contains(log.String(), "secret") {
			t.Errorf("%d lines for 1000 rejected records:\n%s", n, log.String())
		}
		if status := manager.Statuses()[0]; status.Rejected != 1000 || status.Published != 0 {
			t.Errorf("status %+v", status)
		}
	})
}

// TestGrace checks that a context with grace ends some time after its parent.
func TestGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		grace, stop := source.WithGrace(ctx, 3*time.Second)
		cancel()
		pass(2 * time.Second)
		if grace.Err() != nil {
			t.Error("ended early")
		}
		pass(2 * time.Second)
		if grace.Err() == nil {
			t.Error("hasn't ended")
		}
		stop()

		early, stop := source.WithGrace(t.Context(), time.Hour)
		stop()
		if early.Err() == nil {
			t.Error("stop has no effect")
		}
	})
}
