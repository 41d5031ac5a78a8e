// Package clients tests client libraries for event streams against daemons, and
// generates the table of their behavior in docs/clients.md.
package clients
