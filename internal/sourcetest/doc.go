// Package sourcetest runs the servers of sources for tests, and breaks their connections.
package sourcetest
