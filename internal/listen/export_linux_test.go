package listen

import (
	"net"
	"runtime"
)

// Acceptor gives tests access to the acceptor.
type Acceptor struct{ acceptor }

// NewAcceptor returns an Acceptor.
func NewAcceptor() *Acceptor { return new(Acceptor) }

// Accept is the acceptor's accept.
func (a *Acceptor) Accept(socket net.Listener) (int, net.Addr, error) { return a.accept(socket) }

// Close is the acceptor's close.
func (a *Acceptor) Close() error { return a.close() }

// WaitUntilOpen waits until Accept has opened the descriptor.
func (a *Acceptor) WaitUntilOpen() {
	for open := false; !open; runtime.Gosched() {
		a.mu.Lock()
		open = a.file != nil
		a.mu.Unlock()
	}
}

// AcceptError is acceptError.
func AcceptError(addr net.Addr, call string, err error) error { return acceptError(addr, call, err) }
