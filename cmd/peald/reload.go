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

// pollInterval is the interval at which the configuration file is checked for
// changes. A changed file is read once two checks in a row find the same content.
// If a file is changed in place, the writes may therefore be this far apart.
const pollInterval = 500 * time.Millisecond

// reloader reads the settings again on a signal, and after the configuration file
// has changed.
//
// It polls the content of the file because file notifications are unreliable.
// They cover only the named file or its directory. But the file may be replaced,
// or reached through symbolic links that change (as in Kubernetes). It may also
// be mounted into a container by itself, or over a network.
type reloader struct {
	load func(configFile) (daemon.Config, error)
	out  chan<- daemon.Reload

	name  string // name of the file; empty while there is none
	empty bool   // whether the file was empty when it was last valid
	tried string // digest of the content that was read last, valid or not
	seen  string // digest at the last check

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// startReloader starts a reloader that sends what it reads to out. File is the
// file that the daemon was started with.
func startReloader(ctx context.Context, file configFile, out chan<- daemon.Reload, hangUps <-chan os.Signal,
	load func(configFile) (daemon.Config, error),
) *reloader {
	r := &reloader{load: load, out: out, name: file.name, empty: file.isEmpty(), tried: file.digest()}
	ctx, r.cancel = context.WithCancel(ctx)
	r.running.Go(func() { r.run(ctx, hangUps) })
	return r
}

// stop stops the reloader and waits for its goroutine.
func (r *reloader) stop() {
	r.cancel()
	r.running.Wait()
}

func (r *reloader) run(ctx context.Context, hangUps <-chan os.Signal) {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()

	for {
		var next daemon.Reload
		select {
		case <-ctx.Done():
			return
		case <-hangUps:
			next = r.read()
			next.Reread = true
		case <-tick.C:
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

// changed reports whether the content of the file differs from what was read last,
// and is the same as at the last check.
func (r *reloader) changed() bool {
	if r.name == "" {
		return false
	}
	// Reading anything but a regular file could block forever.
	if info, err := os.Stat(r.name); err == nil && !info.Mode().IsRegular() {
		return false
	}
	before := r.seen
	file, err := openFile(r.name)
	r.seen = digestOf(file, err)
	return r.seen != r.tried && r.seen == before
}

// read reads the file that the daemon was started with. If there was none, it
// looks for a file again.
func (r *reloader) read() daemon.Reload {
	file, err := findFile(r.name)
	r.tried = digestOf(file, err)

	// The file may be empty at the start. Later, an empty file is probably still
	// being written, and accepting it would remove all tokens.
	if err == nil && file.isEmpty() && !r.empty {
		err = fmt.Errorf("configuration file %s: file is empty", file.name)
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

// digest returns a digest of the content. Unlike the content, it holds no
// secrets.
func (f configFile) digest() string {
	sum := sha256.Sum256(f.content)
	return string(sum[:])
}

func digestOf(f configFile, err error) string {
	if err != nil {
		return err.Error()
	}
	return f.digest()
}
