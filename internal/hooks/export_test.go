package hooks

import "net/http"

// MaxPending is the maximum number of events that wait to be sent.
const MaxPending = maxPending

// SetTransport replaces the transport that sends requests. It must be called before Run.
func (m *Manager) SetTransport(t http.RoundTripper) { m.client.http.Transport = t }
