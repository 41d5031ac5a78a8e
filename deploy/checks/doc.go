// Package checks tests the files in deploy/: units, images, charts, packages,
// alerts and dashboards. Each file is read with the library of the tool that will
// use it. These libraries have many dependencies, so the checks are in a separate
// module.
package checks
