package daemon

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/pprof" // what it puts into the default mux, nobody serves
	"runtime/trace"
	"strings"
	"time"
)

const (
	// flightAge and flightBytes are what the flight recorder keeps: about the
	// last seconds, unless they are full of events.
	flightAge   = 10 * time.Second
	flightBytes = 16 << 20
)

// newFlightRecorder starts recording what the runtime does. There can be one in
// a process.
func newFlightRecorder() (*trace.FlightRecorder, error) {
	recorder := trace.NewFlightRecorder(trace.FlightRecorderConfig{MinAge: flightAge, MaxBytes: flightBytes})
	if err := recorder.Start(); err != nil {
		return nil, fmt.Errorf("debug.flight_recorder: %w", err)
	}
	return recorder, nil
}

// debugPages are what is under /debug/: profiles, and the recording if there is
// a recorder. The command line, which pprof would show too, may hold secrets.
func debugPages(recorder *trace.FlightRecorder) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case path == "/debug/flight":
			sendFlight(w, recorder)
		case path == "/debug/pprof/profile":
			pprof.Profile(w, r)
		case path == "/debug/pprof/trace":
			pprof.Trace(w, r)
		case path == "/debug/pprof/symbol":
			pprof.Symbol(w, r)
		case path != "/debug/pprof/cmdline" && strings.HasPrefix(path, "/debug/pprof/"):
			pprof.Index(w, r)
		default:
			http.Error(w, "there are /debug/pprof/ and /debug/flight", http.StatusNotFound)
		}
	})
}

// sendFlight answers with the last seconds, for `go tool trace`.
func sendFlight(w http.ResponseWriter, recorder *trace.FlightRecorder) {
	if recorder == nil {
		http.Error(w, "nothing is recorded: debug.flight_recorder is not set", http.StatusNotFound)
		return
	}
	// The recorder stands still while it writes, and clients may be slow.
	var recording bytes.Buffer
	if _, err := recorder.WriteTo(&recording); err != nil {
		http.Error(w, "another one is being fetched", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename="peald.trace"`)
	// An error means that the client is gone.
	_, _ = io.Copy(w, &recording)
}
