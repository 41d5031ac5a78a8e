package bench_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"testing"

	"github.com/peald/peald/internal/bench"
)

func TestPlotLatency(t *testing.T) {
	t.Parallel()
	curve := func(ms float64) bench.Distribution {
		return bench.Distribution{Curve: []bench.Quantile{{Share: 0, Millis: ms}, {Share: 0.5, Millis: 2 * ms}, {Share: 0.999, Millis: 9 * ms}}}
	}
	var svg bytes.Buffer
	err := bench.PlotLatency(&svg, "this < that", bench.Series{Name: "one", Distribution: curve(1)}, bench.Series{Name: "another", Distribution: curve(2)})
	if err != nil {
		t.Fatal(err)
	}

	texts := textsOf(t, &svg)
	for _, want := range []string{"this < that", "one", "another", "50%", "99.9%"} {
		if !texts[want] {
			t.Errorf("the plot lacks %q: %v", want, texts)
		}
	}
}

func TestPlotBars(t *testing.T) {
	t.Parallel()
	var svg bytes.Buffer
	err := bench.PlotBars(&svg, "sizes", "metres", []string{"Monday", "Tuesday"},
		bench.Bars{Name: "one", Values: []float64{1, 2}}, bench.Bars{Name: "another", Values: []float64{3, math.NaN()}})
	if err != nil {
		t.Fatal(err)
	}
	texts := textsOf(t, &svg)
	for _, want := range []string{"sizes", "metres", "Monday", "Tuesday", "one", "another"} {
		if !texts[want] {
			t.Errorf("the plot lacks %q: %v", want, texts)
		}
	}
}

func textsOf(t *testing.T, svg io.Reader) map[string]bool {
	t.Helper()
	texts := map[string]bool{}

	for d := xml.NewDecoder(svg); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := token.(xml.CharData); ok {
			texts[string(text)] = true
		}
	}

	return texts
}

func TestPlotWithoutData(t *testing.T) {
	t.Parallel()
	if err := bench.PlotLatency(io.Discard, "", bench.Series{Name: "empty"}); err == nil {
		t.Error("plotted without data")
	}
}
