package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/peald/peald/internal/bench"
)

// plotFile is the file that a plot is written to; nil means no plot. It is opened
// before the measurement, so that a bad path is reported early.
type plotFile struct{ *os.File }

func openPlot(path string) (*plotFile, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // no plot was requested
	}
	// An existing file stays untouched until there is a plot to replace it.
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644) //nolint:gosec // The user of the command chooses the path.
	if err != nil {
		return nil, usagef("--plot: %w", err)
	}
	return &plotFile{file}, nil
}

func (p *plotFile) draw(r *bench.Result) error {
	if p == nil || r.Delivered == 0 {
		return nil
	}
	if err := p.Truncate(0); err != nil {
		return fmt.Errorf("--plot: %w", err)
	}
	title := fmt.Sprintf("%d streams, %d messages of %d bytes, %.0f deliveries per second", r.Clients, r.Published, r.Size, r.DeliveredPerSec)
	return bench.PlotLatency(p, title, bench.Series{Name: r.URL, Distribution: r.Latency})
}

// close closes the file, and removes it if it is empty.
func (p *plotFile) close() error {
	if p == nil {
		return nil
	}
	info, err := p.Stat()
	err = errors.Join(err, p.Close())
	if err == nil && info.Size() == 0 {
		err = os.Remove(p.Name())
	}
	if err != nil {
		return fmt.Errorf("--plot: %w", err)
	}
	return nil
}
