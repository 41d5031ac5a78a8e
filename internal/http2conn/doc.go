// Package http2conn implements the server side of one HTTP/2 connection (RFC 9113)
// without I/O. Incoming bytes go into [Conn.Receive], which calls a [Handler]; outgoing
// bytes come from [Conn.AppendOutput] and [Stream.Send]. It is for an event loop that
// owns many idle connections: nothing here has a goroutine, a timer or a lock, and an
// idle connection has no buffer.
//
//	conn := server.NewConn(handler)
//	err := conn.Receive(codec, received)       // calls the handler
//	out = conn.AppendOutput(out)               // settings, replies, headers of responses
//	out, n = stream.Send(out, [][]byte{event}) // DATA, as far as the windows allow
//
// The caller must serialize the calls for one connection and its streams. A
// [Codec] holds the scratch memory for parsing and encoding, and is shared by
// connections: a caller has one for each goroutine.
//
// # What is left to the caller
//
//   - Deadlines: [Conn.Incomplete], [Conn.Streams], [Conn.Ping] and [Conn.Draining]
//     help to decide when a connection is idle, slow or done.
//   - Bodies: Conn buffers none. Bytes that a handler doesn't read must be dropped
//     with [Stream.Discard], as the connection's receive window is shared.
//   - Fairness: call [Conn.Wake] after sending on streams or closing them, so that
//     others can use what is left of the connection's window.
//   - The rest of a response: content-length, and that HEAD has no body.
//
// # Limits
//
// What a client sends costs it credit. Requests, response data and the passage of time
// restore it. A client without credit gets GOAWAY with ENHANCE_YOUR_CALM, and Receive
// returns an [Error] that names the flood. That covers rapid reset (CVE-2023-44487) and
// its variant in which the server resets (CVE-2025-8671), endless header blocks
// (CVE-2023-45288), and floods of PING, SETTINGS, PRIORITY, WINDOW_UPDATE, unknown and
// empty frames (CVE-2019-9512 to 9518). Replies to a client that doesn't read are
// limited too.
//
// Server push, CONNECT, Upgrade: h2c and priorities aren't supported. PRIORITY and
// PRIORITY_UPDATE are ignored, as RFC 9113 §5.3.2 allows.
package http2conn
