// Package testbed provides what tests of all packages need from the machine: programs and
// npm packages, certificates, small disks, unused addresses, logs, and the built daemon.
//
// It doesn't import other packages of this module. Tests that run a daemon in their own
// process use package pealdtest, which imports most of the module. The go command compiles
// all of that again for each tested package that has tests inside the package.
package testbed
