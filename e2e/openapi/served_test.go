package openapi_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/peald/peald/internal/pealdtest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// served returns the OpenAPI document that a daemon serves.
func served(t *testing.T, daemon *pealdtest.Daemon) []byte {
	t.Helper()

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, daemon.URL("/openapi.json"), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}

	resp, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v", resp.Status, err)
	}

	return text
}
