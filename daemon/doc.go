// Package daemon assembles peald. A [Config] holds all of its settings. [Run] builds
// the parts according to a Config, runs them and shuts them down gracefully.
package daemon
