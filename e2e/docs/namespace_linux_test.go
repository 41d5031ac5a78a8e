package docs_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// isolated is set in the environment of a test process that has its own network, in
// which all documented ports are free.
const isolated = "PRIVATE_NETWORK"

func TestMain(m *testing.M) {
	if os.Getenv(isolated) == "" {
		if status, ok := runIsolated(); ok {
			os.Exit(status)
		}
	} else if err := enableLoopback(); err != nil {
		fmt.Fprintln(os.Stderr, "enabling loopback:", err)
		os.Exit(1)
	}

	os.Exit(m.Run())
}

// runIsolated runs this program again in its own network namespace. It reports
// false if the system doesn't allow that.
func runIsolated() (status int, ok bool) {
	for _, attributes := range []*syscall.SysProcAttr{
		{Cloneflags: unix.CLONE_NEWNET},
		{
			Cloneflags:  unix.CLONE_NEWNET | unix.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		},
	} {
		cmd := exec.Command(os.Args[0], os.Args[1:]...)
		cmd.Env = append(os.Environ(), isolated+"=1")
		cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = os.Stdout, os.Stderr, attributes

		err := cmd.Start()
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSPC) {
			continue
		}

		if err != nil {
			fmt.Fprintln(os.Stderr, "running the tests again:", err)

			return 1, true
		}

		_ = cmd.Wait()

		return cmd.ProcessState.ExitCode(), true
	}

	return 0, false
}

func enableLoopback() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)

	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}

	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)

	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request)
}
