// Package daemon is peald as a whole: what can be set about it ([Config]), and
// the wiring that builds its parts, runs them, and ends them in good order
// ([Run]).
package daemon
