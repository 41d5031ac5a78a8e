package daemon

import (
	"fmt"
	"strconv"

	"github.com/peald/peald/internal/listen"
)

// descriptorBudget divides up the process's file descriptors so that there are enough
// for maxStreams streams, or for as many as possible if maxStreams is 0.
func descriptorBudget(maxStreams int) (listen.Budget, error) {
	b, err := listen.NewBudget()
	if err != nil {
		return b, err //nolint:wrapcheck // It names the limit.
	}

	if maxStreams > b.Streams {
		return b, &SettingError{
			"sse.max_connections", strconv.Itoa(maxStreams),
			fmt.Sprintf("at most %d, which the limit of %d file descriptors allows: raise it (ulimit -n)", b.Streams, b.Limit),
		}
	}
	if maxStreams > 0 {
		b = b.WithStreams(maxStreams)
	}
	return b, nil
}
