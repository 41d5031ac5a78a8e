package engine

// goAway asks the client to use another connection, and closes this one once it
// has no streams.
func (c *http2Conn) goAway() {
	c.mu.Lock()
	if !c.closed {
		c.conn.GoAway()
	}
	c.endTurn()
}

// leave asks the client to use another connection if the engine is being drained
// and no event stream is open. The caller holds mu.
func (c *http2Conn) leave() {
	if c.streams == 0 && c.set.engine.leaving.Load() {
		c.conn.GoAway()
	}
}

// leaveIdle calls leave.
func (c *http2Conn) leaveIdle() {
	c.mu.Lock()
	if !c.closed {
		c.leave()
	}
	c.endTurn()
}

// cancel cancels the requests that have a goroutine.
func (c *http2Conn) cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.running {
		w.stop(errConnClosed)
	}
}

// fail closes the connection. The caller holds mu.
func (c *http2Conn) fail(err error) {
	if c.closed {
		return
	}
	c.conn.Close(err)
	c.arrived = nil
	if c.tls != nil {
		if len(c.left) == 0 {
			_, _ = write(c.fd, [][]byte{c.tls.closeNotify(nil)}, nil)
		}
		c.tls.layer.Wipe()
	}

	c.closed = true
	c.listener.engine.http2.Add(-1)
	c.set.mu.Lock()
	c.timer.stop()
	c.set.mu.Unlock()
	c.set.remove(&c.fd, c.generation)
	c.left, c.waiting = nil, nil
	if c.out != nil {
		c.set.engine.recycle(c.out)
		c.out = nil
	}
	if c.release != nil {
		c.release()
	}
	if !c.answered && !c.listener.isClosed() {
		c.listener.cfg.Guard.NoRequest(c.remote)
	}
}
