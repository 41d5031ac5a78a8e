// Package tlsrecord implements the server side of the TLS 1.3 record layer (RFC
// 8446 §5) for connections whose handshake crypto/tls has performed.
//
// A [tls.Conn] needs a goroutine, buffers and expanded keys: about 40 KB per
// connection. A [Layer] needs about 250 bytes. It only transforms bytes and has no
// socket, so an event loop can use it with bare descriptors. A [Conn] is a [net.Conn]
// on top of a Layer.
//
// # Handshake
//
// [Handshaker.Handshake] lets crypto/tls perform the whole handshake. The package
// relies on crypto/tls for the key exchange, authentication, the choice of
// certificates, ALPN, session tickets and resumption, and implements none of these
// itself. Each handshake uses its own configuration, whose KeyLogWriter receives the
// application traffic secrets. The key log is the only interface of crypto/tls that
// exposes them. Its format is stable because programs such as Wireshark read it. The
// secrets aren't written anywhere except to the KeyLogWriter that the operator has
// configured, if any.
//
// A layer must continue at the record where crypto/tls stopped, in both directions:
//
//   - Inbound, crypto/tls receives one record at a time, so it never reads past the
//     client's Finished message. The first record after Finished is number 0.
//     [Layer.Unread] returns any bytes of later records that were read from the socket.
//   - Outbound, crypto/tls sends session tickets under the application keys before it
//     has received the client's Finished. The package doesn't rely on their number. It
//     keeps a copy of the server's records and counts those that decrypt under the
//     server's application key with the sequence numbers 0, 1, and so on. A record
//     authenticates only with the key and the sequence number with which it was sealed,
//     so the count is exact, and the key is known to be right. Each of these records
//     must be a NewSessionTicket message.
//
// If any of this doesn't hold, for example with a future version of crypto/tls, the
// connection continues on the [tls.Conn]. The same is true for TLS 1.2, for unknown
// cipher suites, and in FIPS 140 mode, where the FIPS module must build the nonces
// itself.
//
// After the handshake, either crypto/tls or the layer uses the keys. If both did, two
// records would be encrypted with the same nonce. When a layer takes over, the tls.Conn
// is therefore cut off from the socket, and only its ConnectionState can still be used.
//
// # Records
//
// The layer accepts only what RFC 8446 allows after the handshake: application data,
// alerts and KeyUpdate messages. Anything else causes an [*AlertError]. Every error is
// permanent. Keys are replaced after 2^24 records, which is below the limit that RFC
// 8446 §5.5 sets for AES-GCM. As a result, sequence numbers never wrap. Application
// data is coalesced into records of up to 16 KiB, without padding. As with crypto/tls,
// observers can therefore see the lengths of events.
//
// # Keys
//
// A layer keeps the traffic secret, key, IV and sequence number of each direction
// in its own arrays, and overwrites them on a key update and in [Layer.Wipe]. Up to
// 2,560 layers of a [Handshaker] also keep the expanded key for sending, until the
// next key update or Wipe. All other expanded keys exist only during a call.
//
// Go's garbage collector doesn't overwrite memory, so copies made by other packages
// remain in freed memory until it is reused. These are the keys that crypto/tls, HKDF
// and the ciphers have expanded, and the lines of the key log.
package tlsrecord
