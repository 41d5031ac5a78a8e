package daemon

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/pprof" // Importing pprof adds handlers to the default mux, which nothing serves.
	"runtime/trace"
	"strings"
	"time"
)

// Limits of the flight recorder, which keeps about flightAge of events, or less if they
// exceed flightBytes.
const (
	flightAge   = 10 * time.Second
	flightBytes = 16 << 20
)

// newFlightRecorder starts recording runtime events. A process can have only one active
// recorder.
func newFlightRecorder() (*trace.FlightRecorder, error) {
	recorder := trace.NewFlightRecorder(trace.FlightRecorderConfig{MinAge: flightAge, MaxBytes: flightBytes})
	if err := recorder.Start(); err != nil {
		return nil, fmt.Errorf("debug.flight_recorder: %w", err)
	}
	return recorder, nil
}

// debugPages returns a handler for /debug/, which serves profiles and, if recorder
// isn't nil, its recording. Unlike pprof's handlers, it doesn't serve the command line,
// which may contain secrets.
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
			http.Error(w, "not found; try /debug/pprof/ or /debug/flight", http.StatusNotFound)
		}
	})
}

// sendFlight sends the recording in the format that `go tool trace` reads.
func sendFlight(w http.ResponseWriter, recorder *trace.FlightRecorder) {
	if recorder == nil {
		http.Error(w, "nothing is recorded: debug.flight_recorder is off", http.StatusNotFound)
		return
	}

	// Write to a buffer first: the recorder is blocked while it writes, and clients
	// may be slow.
	var recording bytes.Buffer
	if _, err := recorder.WriteTo(&recording); err != nil {
		http.Error(w, "another client is fetching the recording; try again", http.StatusServiceUnavailable)
		return
	}

	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename="peald.trace"`)
	_, _ = io.Copy(w, &recording) // An error means that the client is gone.
}
