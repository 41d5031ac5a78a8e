package bench

import (
	"fmt"
	"image/color"
	"io"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Series is one line of a latency plot.
type Series struct {
	Name         string
	Distribution Distribution
}

// PlotLatency writes a plot of latencies by percentile to w as an SVG. The
// percentile axis is logarithmic: 99% is as far from 90% as 99.9% is from 99%.
func PlotLatency(w io.Writer, title string, series ...Series) error {
	p := newPlot(title)
	p.Legend.Padding = vg.Points(2)
	p.X.Label.Text = "percentile of deliveries"
	p.Y.Label.Text = "latency (ms)"
	p.X.Tick.Marker = plot.ConstantTicks(shareTicks())
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	highest := 0.0

	for i, s := range series {
		points := make(plotter.XYs, len(s.Distribution.Curve))
		for j, q := range s.Distribution.Curve {
			points[j] = plotter.XY{X: nines(q.Share), Y: q.Millis}
			highest = max(highest, q.Millis)
		}

		if len(points) == 0 {
			return fmt.Errorf("plot %q: no data", s.Name)
		}

		line, err := plotter.NewLine(points)
		if err != nil {
			return fmt.Errorf("plot %q: %w", s.Name, err)
		}

		line.Color, line.Width = plotutil.Color(i), vg.Points(1.5)
		p.Add(line)

		if len(series) > 1 {
			p.Legend.Add(s.Name, line)
		}
	}

	p.Y.Min, p.Y.Max = 0, 1.05*highest

	return writeSVG(w, p)
}

func newPlot(title string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	p.Title.Padding = vg.Points(8)
	for _, style := range []*text.Style{
		&p.Title.TextStyle, &p.Legend.TextStyle,
		&p.X.Label.TextStyle, &p.X.Tick.Label, &p.Y.Label.TextStyle, &p.Y.Tick.Label,
	} {
		style.Font.Variant = "Sans"
	}
	return p
}

func writeSVG(w io.Writer, p *plot.Plot) error {
	const width, height = 18 * vg.Centimeter, 10 * vg.Centimeter
	canvas := vgsvg.New(width, height)
	page := draw.New(canvas)
	page.SetColor(color.White)
	page.Fill(page.Path())
	margin := vg.Points(10)
	p.Draw(draw.Crop(page, margin, -2*margin, margin, -margin))
	if _, err := canvas.WriteTo(w); err != nil {
		return fmt.Errorf("write the plot: %w", err)
	}
	return nil
}

// nines returns the number of nines in a share: 2 for 0.99, for example.
func nines(share float64) float64 { return -math.Log10(1 - share) }

func shareTicks() []plot.Tick {
	ticks := []plot.Tick{{Value: 0, Label: "0%"}, {Value: nines(0.5), Label: "50%"}}
	for i, label := range []string{"90%", "99%", "99.9%", "99.99%", "99.999%", "99.9999%", "99.99999%"} {
		ticks = append(ticks, plot.Tick{Value: float64(i + 1), Label: label})
	}
	return ticks
}
