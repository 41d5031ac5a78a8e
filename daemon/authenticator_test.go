package daemon_test

import (
	"bufio"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// onEachEngine runs a test with each engine that writes to sockets.
func onEachEngine(t *testing.T, test func(t *testing.T, engine func(*daemon.Config))) {
	t.Helper()
	for _, engine := range []string{daemon.EngineNetHTTP, daemon.EngineAuto} {
		t.Run(engine, func(t *testing.T) {
			test(t, func(cfg *daemon.Config) { cfg.SSE.Engine = engine })
		})
	}
}

// firstLine opens a connection, sends text and returns the first line of the
// answer, or the error.
func firstLine(t *testing.T, addr, text string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		return err.Error()
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(line)
}

func TestPROXYProtocol(t *testing.T) {
	onEachEngine(t, func(t *testing.T, engine func(*daemon.Config)) {
		d := start(t, func(cfg *daemon.Config) {
			engine(cfg)
			cfg.SSE.MaxConnectionsPerIP = 1
			cfg.SSE.TrustedProxies = []string{"127.0.0.1"}
			cfg.SSE.ProxyProtocol = true
		})

		const get = "GET /events HTTP/1.1\r\nHost: x\r\n\r\n"
		v2 := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc6\x33\x64\x02\x7f\x00\x00\x01\x12\x34\x1f\x90" // 198.51.100.2
		for _, step := range []struct{ sent, want string }{
			{"PROXY TCP4 198.51.100.1 127.0.0.1 4711 8080\r\n" + get, "HTTP/1.1 200 OK"},
			{"PROXY TCP4 198.51.100.1 127.0.0.1 4712 8080\r\n" + get, "HTTP/1.1 429 Too Many Requests"},
			{v2 + get, "HTTP/1.1 200 OK"},
			{v2 + get, "HTTP/1.1 429 Too Many Requests"},
			// The proxy forwards the requests from another proxy.
			{"PROXY TCP4 127.0.0.1 127.0.0.1 4713 8080\r\n" + strings.Replace(get, "\r\n\r\n", "\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n", 1), "HTTP/1.1 429 Too Many Requests"},
			{"PROXY UNKNOWN\r\n" + get, "HTTP/1.1 200 OK"},
		} {
			if got := firstLine(t, d.SSE, step.sent); got != step.want {
				t.Errorf("%q: %s, want %s", step.sent, got, step.want)
			}
		}
		if got := firstLine(t, d.SSE, get); strings.HasPrefix(got, "HTTP/1.1 2") {
			t.Errorf("without the PROXY header, a trusted proxy gets %s", got)
		}

		rpc, _ := controlClient(t, d.GRPC)
		awaitStreams(t, rpc, 3)
	})
}

func TestPROXYProtocolOfUntrustedPeers(t *testing.T) {
	d := start(t, func(cfg *daemon.Config) {
		cfg.SSE.TrustedProxies = []string{"192.0.2.1"}
		cfg.SSE.ProxyProtocol = true
	})
	if got := firstLine(t, d.SSE, "PROXY TCP4 198.51.100.1 127.0.0.1 4711 8080\r\nGET /events HTTP/1.1\r\nHost: x\r\n\r\n"); got != "HTTP/1.1 400 Bad Request" {
		t.Errorf("an untrusted peer with a PROXY header gets %s", got)
	}
	if got := firstLine(t, d.SSE, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n"); got != "HTTP/1.1 200 OK" {
		t.Errorf("an untrusted peer without one gets %s", got)
	}
}

// awaitStreams waits until n streams are open.
func awaitStreams(t *testing.T, rpc pealv1.ControlServiceClient, n int32) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		stats, err := rpc.Stats(t.Context(), &pealv1.StatsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if stats.GetTotal().GetConnections() == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d streams, want %d", stats.GetTotal().GetConnections(), n)
		}
	}
}

// TestExternalKeySet uses a key set on an HTTP server, and tokens that an
// application has signed.
func TestExternalKeySet(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}

	entry, err := jwkset.NewJWKFromKey(private.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: "k1"}})
	if err != nil {
		t.Fatal(err)
	}

	text, err := json.Marshal(map[string]any{"keys": []any{entry.Marshal()}})
	if err != nil {
		t.Fatal(err)
	}

	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(text) }))
	defer keys.Close()
	d := start(t, func(cfg *daemon.Config) { cfg.Auth.JWT.JWKSURL = keys.URL })
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{"sub": "alice"})
	token.Header["kid"] = "k1"
	signed, err := token.SignedString(private)
	if err != nil {
		t.Fatal(err)
	}

	stream(t, client(t), "http://"+d.SSE+"/events?access_token="+signed)
	rpc, _ := controlClient(t, d.GRPC)
	users, err := rpc.ListUsers(t.Context(), &pealv1.ListUsersRequest{})
	if err != nil || len(users.GetUsers()) != 1 || users.GetUsers()[0].GetUserId() != "alice" {
		t.Errorf("users %v, %v", users, err)
	}
	if _, err := rpc.CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: "bob"}); err == nil {
		t.Error("the daemon signs without a private key")
	}

	d.end()
	if err := d.awaitEnd(t); err != nil {
		t.Error(err)
	}
}

// TestUnresponsiveApplication uses an application that answers only for alice. She
// must not wait for the other users.
func TestUnresponsiveApplication(t *testing.T) {
	application := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || !strings.Contains(string(body), `"session":"alice"`) {
			<-r.Context().Done()
			return
		}

		fmt.Fprint(w, `{"user_id":"alice","expires_at":"`+time.Now().Add(2*time.Second).Format(time.RFC3339Nano)+`"}`)
	}))
	defer application.Close()
	d := start(t, func(cfg *daemon.Config) {
		cfg.Auth.CallbackURL = application.URL
		cfg.Auth.CallbackTimeout = 3 * time.Second
	})

	const get = "GET /events HTTP/1.1\r\nHost: x\r\nCookie: session="
	var answered atomic.Int32
	var all sync.WaitGroup

	for i := range 20 {
		all.Go(func() {
			if got := firstLine(t, d.SSE, fmt.Sprint(get, i, "\r\n\r\n")); got != "HTTP/1.1 503 Service Unavailable" {
				t.Errorf("without an answer from the application, a client gets %s", got)
			}

			answered.Add(1)
		})
	}
	if got := firstLine(t, d.SSE, get+"alice\r\n\r\n"); got != "HTTP/1.1 200 OK" {
		t.Errorf("alice gets %s", got)
	}
	if n := answered.Load(); n > 0 {
		t.Errorf("alice waited until the requests from %d others had timed out", n)
	}

	rpc, _ := controlClient(t, d.GRPC)
	users, err := rpc.ListUsers(t.Context(), &pealv1.ListUsersRequest{})
	if err != nil || len(users.GetUsers()) != 1 {
		t.Errorf("users %v, %v", users, err)
	}

	awaitStreams(t, rpc, 0) // until her token expires
	all.Wait()
	d.end()
	if err := d.awaitEnd(t); err != nil {
		t.Error(err)
	}
}

// TestSecretsAreNotLogged sends valid and invalid secrets in every possible place,
// except in origins, which are logged. Then it searches the log for them.
func TestSecretsAreNotLogged(t *testing.T) {
	const word = "s3cr3t"
	application := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), "fail") {
			fmt.Fprint(w, "not JSON: "+word)
			return
		}

		fmt.Fprint(w, `{"user_id":"alice"}`)
	}))
	defer application.Close()
	for name, change := range map[string]func(*daemon.Config){
		"tokens": func(cfg *daemon.Config) { cfg.Auth.JWT.HMACSecret = secret },
		"callback": func(cfg *daemon.Config) {
			cfg.Auth.CallbackURL = application.URL + "/?key=" + word
			cfg.Auth.CallbackHeaders = []string{"Authorization", "X-Api-Key"}
		},
		"unreachable callback": func(cfg *daemon.Config) {
			cfg.Auth.CallbackURL = "http://user:" + word + "@127.0.0.1:1/?key=" + word
		},
		"unreachable key set": func(cfg *daemon.Config) {
			cfg.Auth.JWT.JWKSURL = "http://user:" + word + "@127.0.0.1:1/?key=" + word
		},
	} {
		t.Run(name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "log")
			file, err := os.Create(log)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			d := startLogging(t, file, change)
			web := client(t)
			for _, path := range []string{"/events", "/events?access_token=" + word, "/" + word, "/events?topic=" + word, "/events?x=%zz" + word, "/events?access_token=a&access_token=" + word} {
				for _, headers := range [][2]string{
					{"Authorization", "Bearer " + word}, {"Authorization", "Basic " + word}, {"Cookie", "peald_token=" + word}, {"Cookie", "fail=" + word},
					{"X-Api-Key", word}, {"Last-Event-ID", word}, {"Referer", "https://" + word}, {"Accept", word},
				} {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+d.SSE+path, http.NoBody)
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set(headers[0], headers[1])
					resp, err := web.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					if resp.StatusCode != http.StatusOK && strings.Contains(path, "access_token="+word) {
						if body, _ := io.ReadAll(resp.Body); strings.Contains(string(body), word) && headers[1] != word {
							t.Errorf("the answer to %s contains the secret: %s", path, body)
						}
					}
					resp.Body.Close()
				}
			}

			for _, raw := range []string{"GET /events?access_token=" + word + " HTTP/9.9\r\n\r\n", word + "\r\n\r\n", "GET /events HTTP/1.1\r\nAuthorization: " + word + "\x00\r\n\r\n", "\x16\x03\x01" + word + word} {
				firstLine(t, d.SSE, raw+"\r\n\r\n")
			}

			rpc, _ := controlClient(t, d.GRPC)
			_, _ = rpc.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: word})
			_, _ = rpc.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: word, Event: "a\n" + word})
			_, _ = rpc.SendToUser(t.Context(), &pealv1.SendToUserRequest{UserId: "alice", Data: word})
			d.end()
			if err := d.awaitEnd(t); err != nil {
				t.Error(err)
			}

			written, err := os.ReadFile(log)
			if err != nil || len(written) == 0 {
				t.Fatalf("nothing was logged: %v", err)
			}
			if found := regexp.MustCompile(`(?m)^.*`+word+`.*$`).FindAll(written, 5); found != nil {
				t.Errorf("the log contains the secret:\n%s", found)
			}
		})
	}
}
