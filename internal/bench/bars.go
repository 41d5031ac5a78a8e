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

// Bars is one series in a bar plot, with a value for each group. A NaN has no bar.
type Bars struct {
	Name   string
	Values []float64
}

// PlotBars writes a grouped bar plot to w as an SVG.
func PlotBars(w io.Writer, title, unit string, groups []string, series ...Bars) error {
	p := newPlot(title)
	p.Y.Label.Text = unit
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.Padding = vg.Points(2)
	grid := plotter.NewGrid()
	grid.Vertical.Color = nil
	p.Add(grid)

	const allBars, maxWidth = 400, 30 // points for all bars, and for one
	width := vg.Points(min(maxWidth, allBars/float64(len(groups)*(len(series)+1))))
	highest := 0.0

	for i, s := range series {
		values := make(plotter.Values, len(groups))
		for j := range values {
			if v := s.Values[j]; !math.IsNaN(v) {
				values[j], highest = v, max(highest, v)
			}
		}

		bars, err := plotter.NewBarChart(values, width)
		if err != nil {
			return fmt.Errorf("plot %q: %w", s.Name, err)
		}

		bars.Color, bars.LineStyle.Width = plotutil.Color(i), 0
		bars.Offset = width * vg.Length(float64(i)-float64(len(series)-1)/2)
		p.Add(bars)
		p.Legend.Add(s.Name, bars)
	}

	p.NominalX(groups...)
	p.X.Min, p.X.Max = -0.55, float64(len(groups))-0.45
	p.Y.Tick.Marker = plot.TickerFunc(commaTicks)
	// Leave space for the legend above the bars.
	const headroom = 1.5
	p.Y.Min, p.Y.Max = 0, headroom*highest
	return writeSVG(w, p)
}

// commaTicks formats tick labels with thousands separators.
func commaTicks(lowest, highest float64) []plot.Tick {
	ticks := plot.DefaultTicks{}.Ticks(lowest, highest)
	for i, t := range ticks {
		if t.Label != "" {
			ticks[i].Label = humanize.Commaf(t.Value)
		}
	}
	return ticks
}
