// Package load holds tests that put daemons and clusters under load: slow,
// hostile and departing clients, nodes that die, daemons that hand over.
// Most run for seconds by default, and for as long as a variable in their
// environment names.
package load
