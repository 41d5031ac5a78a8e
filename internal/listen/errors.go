package listen

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

var errInUse = errors.New("another process is listening there")

// cause returns the innermost part of an error from package net or os: in "listen tcp
// 127.0.0.1:80: bind: permission denied", only the end is new information. If the
// address is in use, it adds what to do about that.
func cause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	if call, ok := errors.AsType[*os.SyscallError](err); ok {
		err = call.Err
	}
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		err = file.Err
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%w; set a different address, or port 0 for any free port", err)
	}
	return err
}
