// Package checks holds the tests of what lies in deploy/: units, images,
// charts, packages and dashboards, each read by the library of the tool that
// will read it. Those libraries are heavy, so they have a module of their own.
package checks
