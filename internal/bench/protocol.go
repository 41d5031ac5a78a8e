package bench

// protocol is the client's side of an HTTP connection. It does no I/O.
type protocol interface {
	// receive decodes what the server sent and returns what to reply, which is
	// valid until the next call of any protocol's receive. After an error, the
	// connection can't be used any more.
	receive(received []byte, to sink) (reply []byte, err error)
}

// sink takes what a protocol decodes. The streams of a connection are numbered
// from 0, in the order of their requests.
type sink interface {
	// opened is called once for each stream, when its response header has
	// arrived and is that of an event stream.
	opened(stream int)
	// body is called for each piece of a stream's body. The piece is valid
	// until body returns.
	body(stream int, piece []byte)
	// ended is called at most once for each stream, when the server has closed
	// or rejected the stream but not the connection.
	ended(stream int, reason error)
}
