//go:build !unix

package daemon

// plentyOfDescriptors is counted with where the system has no such limit.
const plentyOfDescriptors = 1 << 20

func raiseDescriptorLimit() (int, error) { return plentyOfDescriptors, nil }
