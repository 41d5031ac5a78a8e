package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestRun starts the program, gets its page, and stops it.
func TestRun(t *testing.T) {
	t.Parallel()

	const events = "https://example.com/events"

	stdout, output := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)

	go func() { ended <- run(ctx, "127.0.0.1:0", events, output) }()

	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}

	address, found := strings.CutPrefix(strings.TrimSpace(line), "Open ")
	if !found {
		t.Fatalf("the program prints %q", line)
	}

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}

	request.Close = true

	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()

	body, err := io.ReadAll(response.Body)
	if want := `const stream = "` + events + `" +`; err != nil || !strings.Contains(strings.ReplaceAll(string(body), `\/`, "/"), want) {
		t.Errorf("the page lacks %q, %v", want, err)
	}

	cancel()

	if err := <-ended; err != nil {
		t.Errorf("the program ends with %v", err)
	}
}

// TestParrot generates an answer, and stops another one.
func TestParrot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()

		var text strings.Builder

		for word, err := range parrot(t.Context(), "Who  are you?") {
			if word == "" || err != nil {
				t.Fatalf("after %q: %q, %v", &text, word, err)
			}

			text.WriteString(word)
		}

		took := time.Since(begun)
		if got := text.String(); took < 5*time.Second || took > 20*time.Second || !strings.HasPrefix(got, "You asked: “Who  are you?”\n\n") || !strings.HasSuffix(got, "all.") {
			t.Errorf("after %s the answer is %q", took, got)
		}

		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()

		words, last := 0, error(nil)

		for _, err := range parrot(ctx, "Who are you?") {
			if words, last = words+1, err; words == 3 {
				cancel()
			}
		}

		if words != 4 || !errors.Is(last, context.Canceled) {
			t.Errorf("after 3 words and a cancellation, there are %d words and %v", words, last)
		}
	})
}
