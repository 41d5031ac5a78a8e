// Package daemon assembles peald. A [Config] holds all of its settings; [Run]
// builds the parts from it, runs them and shuts them down gracefully.
package daemon
