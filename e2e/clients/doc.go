// Package clients holds the test that runs client libraries of event streams
// against daemons and writes the table of their behavior in docs/clients.md.
package clients
