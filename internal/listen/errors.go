package listen

import (
	"errors"
	"io/fs"
	"net"
	"os"
)

var errInUse = errors.New("another process is listening there")

// cause returns the innermost part of an error of package net or os: of
// "listen tcp 127.0.0.1:80: bind: permission denied" only the end is news.
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
	return err
}
