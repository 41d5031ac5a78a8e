// Package demo shows what the daemon does, with nobody else at hand: [Run]
// makes up events as a backend would send them, and [New] serves a page to
// watch them on.
//
// The page lets whoever opens it take any user's name. So it is for showing
// and trying out, and never for a daemon that real users trust.
package demo
