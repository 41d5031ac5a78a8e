// Package load tests daemons and clusters under load: with slow, hostile and
// disconnecting clients, with nodes that crash, and with daemons that hand over.
// By default, most tests run for a few seconds. An environment variable sets a
// longer duration.
package load
