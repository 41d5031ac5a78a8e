// Package checks tests the files in deploy/: units, images, charts, packages,
// alerts and dashboards. Each is read with the library of the tool that will
// use it. Those libraries are heavy, so they are in a separate module.
package checks
