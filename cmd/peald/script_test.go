package main

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes the command under test available to scripts as peald. It also
// provides a command that logs through the loggers that libraries use.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"peald": main, "library-logs": libraryLogs})
}

// patience is the time limit for operations that usually take milliseconds.
const patience = 90 * time.Second

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"occupy":    occupy,
			"run":       runHere,
			"terminate": terminate,
			"waitfile":  waitFile,
			"waitfresh": waitFresh,
		},
	})
}

// runHere ARGUMENT... runs peald in the test's process, since a process for each command
// line takes much CPU time. The command must not depend on the script's directory and
// variables.
func runHere(ts *testscript.TestScript, neg bool, args []string) {
	if status := run(context.Background(), args, nil, ts.Stdout(), ts.Stderr()); (status != 0) != neg {
		ts.Fatalf("peald exits with status %d", status)
	}
}

// occupy VARIABLE listens on a free address until the end of the script, and sets
// the variable to the address.
func occupy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: occupy VARIABLE")
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = listener.Close() })
	ts.Setenv(args[0], listener.Addr().String())
}

// terminate sends SIGTERM to the background commands; "terminate hangup" sends
// SIGHUP.
func terminate(ts *testscript.TestScript, neg bool, args []string) {
	signal := syscall.SIGTERM
	switch {
	case !neg && len(args) == 0:
	case !neg && len(args) == 1 && args[0] == "hangup":
		signal = syscall.SIGHUP
	default:
		ts.Fatalf("usage: terminate [hangup]")
	}
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(signal))
	}
}

// waitfile FILE waits until FILE exists.
func waitFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitfile FILE")
	}
	if err := awaitFile(ts.MkAbs(args[0])); err != nil {
		ts.Fatalf("%v", err)
	}
}

// waitfresh FILE OLD waits until the contents of FILE and OLD differ.
func waitFresh(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: waitfresh FILE OLD")
	}
	old := ts.ReadFile(args[1])
	if err := await("new content of "+args[0], func() bool { return ts.ReadFile(args[0]) != old }); err != nil {
		ts.Fatalf("%v", err)
	}
}

func awaitFile(path string) error {
	return await("the file "+path, func() bool {
		_, err := os.Stat(path)
		return err == nil
	})
}

// await polls until cond holds. Most conditions ask other processes, so it polls at a
// moderate rate.
func await(what string, cond func() bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for {
		if cond() {
			return nil
		}
		select {
		case <-tick.C:
		case <-late:
			return errors.New("timeout waiting for " + what)
		}
	}
}
