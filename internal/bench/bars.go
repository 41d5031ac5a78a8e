package bench

import (
	"fmt"
	"io"
	"math"

	"github.com/dustin/go-humanize"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// Bars is one of the things that a plot compares, with a value for each of the
// plot's groups. A value that isn't a number has no bar.
type Bars struct {
	Name   string
	Values []float64
}

// PlotBars writes an SVG that compares things group by group.
func PlotBars(w io.Writer, title, unit string, groups []string, things ...Bars) error {
	p := newPlot(title)
	p.Y.Label.Text = unit
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.Padding = vg.Points(2)
	grid := plotter.NewGrid()
	grid.Vertical.Color = nil
	p.Add(grid)

	const room, widest = 400, 30 // points that all bars share, and that one may have
	width := vg.Points(min(widest, room/float64(len(groups)*(len(things)+1))))
	most := 0.0

	for i, thing := range things {
		values := make(plotter.Values, len(groups))
		for j := range values {
			if v := thing.Values[j]; !math.IsNaN(v) {
				values[j], most = v, max(most, v)
			}
		}

		bars, err := plotter.NewBarChart(values, width)
		if err != nil {
			return fmt.Errorf("plot %q: %w", thing.Name, err)
		}

		bars.Color, bars.LineStyle.Width = plotutil.Color(i), 0
		bars.Offset = width * vg.Length(float64(i)-float64(len(things)-1)/2)
		p.Add(bars)
		p.Legend.Add(thing.Name, bars)
	}

	p.NominalX(groups...)
	p.X.Min, p.X.Max = -0.55, float64(len(groups))-0.45
	p.Y.Tick.Marker = plot.TickerFunc(commaTicks)
	// The legend stands above the bars.
	const headroom = 1.5
	p.Y.Min, p.Y.Max = 0, headroom*most
	return writeSVG(w, p)
}

// commaTicks writes large numbers as people read them.
func commaTicks(least, most float64) []plot.Tick {
	ticks := plot.DefaultTicks{}.Ticks(least, most)
	for i, t := range ticks {
		if t.Label != "" {
			ticks[i].Label = humanize.Commaf(t.Value)
		}
	}
	return ticks
}
