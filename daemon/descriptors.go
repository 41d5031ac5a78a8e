package daemon

import (
	"fmt"
	"strconv"
)

// Descriptors that are not for browsers.
const (
	ownDescriptors     = 32  // standard streams, listeners, what the runtime polls with
	controlDescriptors = 256 // connections of the control plane: whatever the browsers do, it answers
	minPassing         = 16
	maxPassing         = 1024
	passingShare       = 16
	controlShare       = 4
)

// budget is how a process's file descriptors are shared out.
type budget struct {
	limit   int // descriptors in all
	streams int // connections that hold a stream
	passing int // connections of browsers that hold none: not yet, or to be refused
}

// budgetFor shares out limit descriptors. A connection that holds no stream
// must have a descriptor too, or it could not be told to come back later.
func budgetFor(limit int) budget {
	control := min(controlDescriptors, limit/controlShare)
	passing := min(max(limit/passingShare, minPassing), maxPassing)
	return budget{
		limit:   limit,
		streams: max(limit-ownDescriptors-control-passing, 0),
		passing: passing,
	}
}

// shareDescriptors raises the limit of file descriptors as far as it goes, and
// shares them out for maxStreams streams, or as many as there can be if that
// is 0.
func shareDescriptors(maxStreams int) (budget, error) {
	limit, err := raiseDescriptorLimit()
	if err != nil {
		return budget{}, err
	}
	b := budgetFor(limit)
	switch {
	case b.streams == 0:
		return budget{}, fmt.Errorf("the limit of %d file descriptors leaves none for streams: raise it (ulimit -n)", limit)
	case maxStreams > b.streams:
		return budget{}, &SettingError{
			"sse.max_connections", strconv.Itoa(maxStreams),
			fmt.Sprintf("at most %d, which the limit of %d file descriptors allows: raise it (ulimit -n)", b.streams, limit),
		}
	}
	// Connections without a stream may use what streams may not.
	hardCap := b.streams + b.passing
	if maxStreams > 0 {
		b.streams = maxStreams
		b.passing = hardCap - maxStreams
	}
	return b, nil
}
