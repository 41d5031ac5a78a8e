// Package listen opens the daemon's listening sockets and limits what they
// accept.
//
// A [Listener] is one socket: on a TCP address, on a socket file, or inherited from the
// process that started the daemon. It can be handed over to another process that
// accepts on the same address, without losing any connections.
//
// [Browsers] guards the listener that browsers connect to. It limits
// connections to a [Budget] of file descriptors and requests to a rate per
// connection, reads the PROXY protocol header from trusted proxies, and counts
// what it rejects.
//
// A [Server] serves HTTP on a listener with bounded headers, bodies and idle
// times. It shuts down without waiting for connections that never sent
// anything; [Tracked] makes that possible for servers of other protocols.
package listen
