package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/peald/peald/internal/bench"
)

// plotFile is where a plot goes, or nil for none. It is opened before anything
// is measured, so that a path that cannot be written costs nobody a measurement.
type plotFile struct{ *os.File }

func openPlot(path string) (*plotFile, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // no plot is asked for
	}
	// What is there stays until there is something to put in its place.
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644) //nolint:gosec // Whoever runs the command says where to.
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
	title := fmt.Sprintf("%d streams, %d messages of %d bytes, %.0f deliveries a second", r.Clients, r.Published, r.Size, r.DeliveredPerSec)
	return bench.PlotLatency(p, title, bench.Series{Name: r.URL, Distribution: r.Latency})
}

// close leaves no file behind in which nothing was drawn.
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
