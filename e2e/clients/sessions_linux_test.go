package clients_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/testbed"
)

// TestTLSSessions resumes sessions, also after the certificate was replaced, and
// updates keys in both directions while a stream is open. A client may close its
// connection with close_notify or without.
func TestTLSSessions(t *testing.T) {
	t.Parallel()

	if *only != "" {
		t.Skip("-clients is set")
	}

	first, second := testbed.NewCertificate(t), testbed.NewCertificate(t)
	openssl := testbed.Program(t, "openssl")
	d := startSecured(t, first.CertFile, first.KeyFile)
	session := filepath.Join(t.TempDir(), "session.pem")
	open := func(input string, args ...string) *program {
		t.Helper()

		p := &program{name: "openssl s_client " + strings.Join(args, " "), daemon: d, input: input}
		p.command = append([]string{openssl, "s_client", "-msg", "-CAfile", first.CertFile, "-connect", d.SSE}, args...)
		p.start(t)
		p.waitFor(t, "HTTP/1.1 200 OK", "id: ")

		return p
	}

	p := open(streamRequest, "-sess_out", session)
	if !strings.Contains(p.output.String(), "New, TLSv1.3") {
		t.Errorf("the session isn't new:\n%s", &p.output)
	}

	// net/http reads the requests of the others, and returns them to the engine.
	programs := []*program{p, open("GET /events HTTP/1.0\r\n\r\n"), open("OPTIONS /events HTTP/1.1\r\nHost: localhost\r\n\r\n" + streamRequest)}
	wantEngine(t, d, len(programs))
	updateKeys(t, d, programs)
	for _, p := range programs[1:] {
		p.kill()
	}

	// Q sends close_notify.
	if _, err := io.WriteString(p.stdin, "Q\n"); err != nil {
		t.Fatal(err)
	}
	p.waitForEnd(t)
	d.WaitForStreams(t, 0)

	resumed := open(streamRequest, "-sess_in", session)
	wantResumed(t, resumed)

	for from, to := range map[string]string{second.CertFile: first.CertFile, second.KeyFile: first.KeyFile} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	if !testbed.Eventually(patience, func() bool {
		conn, err := tls.Dial("tcp", d.SSE, second.Client())
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}) {
		t.Fatal("the daemon still has its first certificate")
	}
	fresh := open(streamRequest) // with the second certificate, which is in the file of the first now
	fresh.waitFor(t, "Verify return code: 0 (ok)")
	renewed := open(streamRequest, "-sess_in", session)
	wantResumed(t, renewed)
	d.WaitForStreams(t, 3)

	// A client that is killed sends no close_notify.
	for _, p := range []*program{resumed, fresh, renewed} {
		p.kill()
	}
	d.WaitForStreams(t, 0)
}

// updateKeys updates the keys of each connection in both directions, and publishes
// events after each update.
func updateKeys(t *testing.T, d secured, programs []*program) {
	t.Helper()

	control := control(t, d.GRPC)
	events := 0
	publish := func() {
		t.Helper()

		events++
		data := "event " + strconv.Itoa(events)
		if _, err := control.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: data}); err != nil {
			t.Fatal(err)
		}
		for _, p := range programs {
			p.waitFor(t, "data: "+data+"\n")
		}
	}

	// K also asks the daemon to update its keys, which it does before it sends more.
	var updates []string
	requested := 0
	for _, command := range []string{"k\n", "K\n", "K\n", "k\n"} {
		updates = append(updates, "KEYUPDATE")
		if command == "K\n" {
			requested++
		}
		for _, p := range programs {
			if _, err := io.WriteString(p.stdin, command); err != nil {
				t.Fatal(err)
			}
			p.waitFor(t, updates...)
		}

		// The program reports a request before it sends it.
		if !testbed.Eventually(patience, func() bool {
			publish()
			return !slices.ContainsFunc(programs, func(p *program) bool { return p.keyUpdates() != requested })
		}) {
			t.Fatalf("the daemon hasn't updated the keys of each connection %d times", requested)
		}
	}
}

// keyUpdates returns the number of KeyUpdate messages that s_client has received.
func (p *program) keyUpdates() int {
	return strings.Count(p.output.String(), "<<< TLS 1.3, Handshake [length 0005], KeyUpdate\n")
}

// wantEngine checks that the engine holds n streams, and net/http none.
func wantEngine(t *testing.T, d secured, n int) {
	t.Helper()

	response, err := http.Get(d.URL("/metrics"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()

	metrics, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for engine, want := range map[string]int{"epoll": n, "nethttp": 0} {
		if line := fmt.Sprintf("\npeald_connections_by_engine{engine=%q} %d\n", engine, want); !strings.Contains(string(metrics), line) {
			t.Errorf("the metrics lack %q", line)
		}
	}
}

// wantResumed checks that a session was resumed, and that it allows no early data.
func wantResumed(t *testing.T, p *program) {
	t.Helper()

	p.waitFor(t, "Reused, TLSv1.3", "Early data was not sent")
	if strings.Contains(p.output.String(), "Max Early Data: ") && !strings.Contains(p.output.String(), "Max Early Data: 0\n") {
		t.Errorf("the session allows early data:\n%s", &p.output)
	}
}
