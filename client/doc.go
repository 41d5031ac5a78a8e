// Package client subscribes to the event streams of peald.
//
// A [Subscription] is an iterator over the events of a stream:
//
//	events, err := client.Subscribe(ctx, "https://example.com/events",
//		client.WithTopics("news", "orders.*"),
//		client.WithToken(fetchToken))
//	if err != nil {
//		return err
//	}
//	for event, err := range events.Events() {
//		switch {
//		case err != nil:
//			return err
//		case event.Reset != nil:
//			reload() // events are missing
//		default:
//			handle(event)
//		}
//	}
//
// # Reconnecting
//
// When the connection breaks or the stream ends, the iterator reconnects and sends the
// id of the last event in the Last-Event-ID header. Events arrive exactly once and in
// order. If the server no longer has all of them, the next event is a [Reset]. The
// delay before a connection is the one that the server asked for ("retry" in the
// stream, or the Retry-After header), plus a random delay (full jitter): up to 1 s,
// twice as long after each further failure, and at most 30 s.
//
// A stream on which nothing arrives for 45 s counts as dead, since peald sends a
// heartbeat every 15 s by default.
//
// # How an iteration ends
//
//   - After status 204 it ends without an error. The stream's only topic has ended, or
//     the user was banned for a while.
//   - If the server rejects the stream permanently, the error is a [StatusError]. After
//     status 401, the client first asks the token source for a new token, once.
//   - Other permanent errors are [ContentTypeError], [EventTooLargeError],
//     [MalformedEventError], a certificate that can't be verified, and an error of the
//     token source that is wrapped with [Permanent].
//   - If the context is done, the error is its cause.
//   - The caller may leave the loop at any time. A later iteration continues after the
//     last event.
//
// Everything belongs to the goroutine of the loop. A subscription has no goroutines of
// its own, and its connection is closed before the loop ends.
//
// # Positions
//
// [Subscription.Position] returns the id to resume from. A program that stores it
// together with the results of the events continues with [WithPosition] after a
// restart, and misses nothing that the server's history still holds.
package client
