//go:build !unix

package listen

// unlimitedDescriptors is the assumed limit, because the system has none.
const unlimitedDescriptors = 1 << 20

func raiseDescriptorLimit() (int, error) { return unlimitedDescriptors, nil }
