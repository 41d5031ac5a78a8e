package main_test

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	main "github.com/peald/peald/cmd/pealctl"
	"github.com/peald/peald/internal/pealdtest"
)

// TestPublishLinesOnATerminal checks that a bar shows the progress, and that errors are
// printed above it.
func TestPublishLinesOnATerminal(t *testing.T) {
	d := pealdtest.Start(t)
	file := filepath.Join(t.TempDir(), "messages.jsonl")
	input := strings.Repeat(`{"everyone":true,"data":"x"}`+"\n", 100) + "{}\n"
	if err := os.WriteFile(file, []byte(input), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, source := range map[string]string{"file": file, "standard input": "-"} {
		t.Run(name, func(t *testing.T) {
			master, terminal := openTerminal(t)
			var stdout bytes.Buffer
			var wg sync.WaitGroup
			code := -1
			wg.Go(func() {
				args := []string{"--addr", d.GRPC, "publish", "--batch", source}
				code = main.Run(t.Context(), args, func(string) string { return "" }, io.MultiReader(strings.NewReader(input)), &stdout, terminal)
				_, _ = terminal.WriteString("finished\n")
			})
			var all []string
			for lines := bufio.NewScanner(master); lines.Scan() && !strings.Contains(lines.Text(), "finished"); {
				all = append(all, lines.Text())
			}
			wg.Wait()
			text := strings.Join(all, "\n")
			if code != 1 || !strings.Contains(text, "publishing ... done!") || !strings.Contains(text, "pealctl: line 101: audience is missing") {
				t.Errorf("status %d, the terminal shows\n%s", code, text)
			}
			if want := "PUBLISHED  FAILED  UNKNOWN\n      100       1        0\n"; stdout.String() != want {
				t.Errorf("stdout %q, want %q", stdout.String(), want)
			}
		})
	}
}
