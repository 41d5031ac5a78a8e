package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/peald/peald/daemon"
)

// lookEvery is how often is looked whether the configuration file has changed.
// One that has is read when it is the same at two looks: whoever writes it in
// place has so long from one write to the next.
const lookEvery = 500 * time.Millisecond

// reloader reads the settings again on a signal, and when the configuration
// file has changed.
//
// It looks at what the file holds instead of having the system tell it of
// changes. Those are told of the folder or the file that was named, and a file
// may be replaced, be behind links that are (as Kubernetes does it), or be
// mounted by itself into a container or over a network, where nothing is told.
type reloader struct {
	load func(configFile) (daemon.Config, error)
	out  chan<- daemon.Reload

	name  string // of the file; empty while there is none
	empty bool   // it held nothing when it was last of use
	tried string // the print of what was read last, be it of use or not
	seen  string // the print at the last look

	cancel context.CancelFunc
	ended  sync.WaitGroup
}

// startReloader starts one that gives out what it reads. File is what was read
// at the start.
func startReloader(ctx context.Context, file configFile, out chan<- daemon.Reload, again <-chan os.Signal,
	load func(configFile) (daemon.Config, error),
) *reloader {
	r := &reloader{load: load, out: out, name: file.name, empty: file.isEmpty(), tried: file.print()}
	ctx, r.cancel = context.WithCancel(ctx)
	r.ended.Go(func() { r.run(ctx, again) })
	return r
}

// stop returns when its goroutine is gone.
func (r *reloader) stop() {
	r.cancel()
	r.ended.Wait()
}

func (r *reloader) run(ctx context.Context, again <-chan os.Signal) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()

	for {
		var next daemon.Reload
		select {
		case <-ctx.Done():
			return
		case <-again:
			next = r.read()
			next.Reread = true
		case <-look.C:
			if !r.changed() {
				continue
			}
			next = r.read()
		}

		select {
		case r.out <- next:
		case <-ctx.Done():
			return
		}
	}
}

// changed says whether the file holds something else than when it was last
// read, and has done so since the last look.
func (r *reloader) changed() bool {
	if r.name == "" {
		return false
	}
	// To read what is no file could be to wait for ever.
	if info, err := os.Stat(r.name); err == nil && !info.Mode().IsRegular() {
		return false
	}
	before := r.seen
	file, err := openFile(r.name)
	r.seen = printOf(file, err)
	return r.seen != r.tried && r.seen == before
}

// read reads the file that was read at the start; where there was none, one
// that may be there by now.
func (r *reloader) read() daemon.Reload {
	file, err := findFile(r.name)
	r.tried = printOf(file, err)

	// To begin with nothing is one thing. But nobody empties the file of a
	// daemon that runs to have it forget its tokens: it is being written.
	if err == nil && file.isEmpty() && !r.empty {
		err = fmt.Errorf("configuration file %s: it is empty", file.name)
	}
	if err != nil {
		return daemon.Reload{Err: err}
	}

	cfg, err := r.load(file)
	if err == nil {
		r.name, r.empty = file.name, file.isEmpty()
	}

	return daemon.Reload{Config: cfg, Err: err}
}

func (f configFile) isEmpty() bool { return len(bytes.TrimSpace(f.content)) == 0 }

// print tells contents apart, without keeping the secrets in them.
func (f configFile) print() string {
	sum := sha256.Sum256(f.content)
	return string(sum[:])
}

func printOf(f configFile, err error) string {
	if err != nil {
		return err.Error()
	}
	return f.print()
}
