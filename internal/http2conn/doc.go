// Package http2conn implements the server side of one HTTP/2 connection (RFC 9113)
// without I/O. Incoming bytes go into [Conn.Receive], which calls a [Handler]; outgoing
// bytes come from [Conn.AppendOutput] and [Stream.Send]. It is designed for event loops
// that own many idle connections: it uses no goroutines, timers or locks, and an idle
// connection has no buffer.
//
//	conn := server.NewConn(handler)
//	err := conn.Receive(codec, received)       // calls the handler
//	out = conn.AppendOutput(out)               // settings, replies, response headers
//	out, n = stream.Send(out, [][]byte{event}) // DATA, as far as the windows allow
//
// The caller must serialize the calls for one connection and its streams. A [Codec]
// holds the scratch memory for parsing and encoding. Connections share it, so one per
// goroutine is enough.
//
// # What is left to the caller
//
//   - Deadlines: [Conn.Incomplete], [Conn.Streams], [Conn.Ping] and [Conn.Draining]
//     help decide whether a connection is idle, slow or done.
//   - Request bodies: Conn doesn't buffer them. Drop the bytes that a handler doesn't
//     read with [Stream.Discard], because streams share the connection's receive
//     window.
//   - Fairness: call [Conn.Wake] after sending on streams or closing them, so that
//     others can use the rest of the connection's window.
//   - Other rules for responses: set content-length, and send no body in response to
//     HEAD.
//
// # Limits
//
// Each connection has credit. Control frames, empty frames and resets use it up.
// Responses, data and the passage of time restore it. A client that runs out of credit
// gets GOAWAY with ENHANCE_YOUR_CALM, and Receive returns an [Error] that names the
// kind of flood. This stops rapid reset (CVE-2023-44487) and its variant in which the
// server sends the resets (CVE-2025-8671), endless header blocks (CVE-2023-45288), and
// floods of PING, SETTINGS, PRIORITY, WINDOW_UPDATE, unknown and empty frames
// (CVE-2019-9512 to 9518). Replies that are queued because the client doesn't read them
// are limited as well.
//
// Server push, CONNECT, upgrades to h2c, and priorities aren't supported. PRIORITY and
// PRIORITY_UPDATE are ignored, as RFC 9113 §5.3.2 allows.
package http2conn
