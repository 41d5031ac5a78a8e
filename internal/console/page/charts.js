// Four charts with a common time axis and cursor, and their data as a table.

import * as format from "/console/format.js";
import uPlot from "/console/uplot/uPlot.esm.js";

const height = 132; // pixels
const leastSeconds = 30; // of the time axis, while there are few samples
const axisGap = 6; // pixels between labels and the plot

// panels configures the charts: their series, in colours from the style sheet, and
// the minimum for the top of the y axis.
const panels = [
  {
    name: "Streams",
    format: format.count,
    series: [{ key: "streams", colour: "--streams", fill: true }],
    note: (stats) => `limit ${format.count(stats.maxConnections)} · ${format.count(stats.users)} ${stats.users === 1 ? "user" : "users"}`,
    least: 4,
    whole: true,
  },
  {
    name: "Deliveries per second",
    format: format.rate,
    series: [{ key: "delivered", colour: "--deliveries", fill: true }],
    note: (stats, latest) => `${format.rate(latest?.published ?? null)} published per second`,
    least: 4,
    whole: true,
  },
  {
    name: "Latency",
    format: format.seconds,
    series: [
      { key: "p50", label: "p50", colour: "--latency-half", fill: true },
      { key: "p99", label: "p99", colour: "--latency-most" },
    ],
    note: () => "from publish to socket write",
    least: 1e-4,
  },
  {
    name: "Drops per second",
    format: format.rate,
    series: [{ key: "dropped", colour: "--drops", fill: true }],
    note: (stats) => `${format.count(Object.values(stats.total.dropped).reduce((n, m) => n + Number(m), 0))} since start`,
    least: 4,
    whole: true,
  },
];

// wholeSteps are the possible distances between labels on axes that show counts.
const wholeSteps = Array.from({ length: 12 }, (_, i) => [1, 2, 2.5, 5].map((n) => n * 10 ** i)).flat().filter(Number.isInteger);

// colour returns a colour from the style sheet in a form that a canvas accepts.
function colour(name, probe) {
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

const faded = (rgb, share) => rgb.replace(/^rgba?\(([^)]*)\)$/, (_, parts) => `rgba(${parts.split(",").slice(0, 3).join(",")}, ${share})`);

// widthOf returns the width of a label on an axis, in CSS pixels.
function widthOf(plot, axis, text) {
  plot.ctx.font = plot.axes[axis].font[0];
  return plot.ctx.measureText(text).width / devicePixelRatio;
}

// timeLabels returns labels for times, and null for those that would extend beyond
// the plot.
function timeLabels(plot, times, axis, _, step) {
  const width = plot.bbox.width / devicePixelRatio;
  const parts = { hour: "2-digit", minute: "2-digit", ...(step < 60 && { second: "2-digit" }) };
  return times.map((time) => {
    const text = new Date(time * 1000).toLocaleTimeString("en-GB", parts);
    const half = widthOf(plot, axis, text) / 2;
    const at = plot.valToPos(time, "x");
    return at >= half && at + half <= width ? text : null;
  });
}

// labelSize returns the width that the labels of the y axis need.
function labelSize(plot, labels, axis, cycle) {
  if (cycle > 1) return plot.axes[axis]._size; // or the layout might never settle
  return axisGap + Math.max(0, ...(labels ?? []).map((label) => widthOf(plot, axis, label)));
}

// areaOf returns a fill that fades towards the bottom of the plot.
const areaOf = (stroke) => ({ ctx, bbox }) => {
  const shade = ctx.createLinearGradient(0, bbox.top, 0, bbox.top + bbox.height);
  shade.addColorStop(0, faded(stroke, 0.28));
  shade.addColorStop(1, faded(stroke, 0.02));
  return shade;
};

class Panel {
  plot = null;
  figure = document.getElementById("chart-template").content.firstElementChild.cloneNode(true);
  #config;
  #readings = [];

  constructor(config) {
    this.#config = config;
    this.#part("name").textContent = config.name;
    this.#part("readings").replaceChildren(
      ...config.series.map(({ label, colour }) => {
        const reading = document.createElement("span");
        reading.className = "reading";
        reading.style.setProperty("--colour", `var(${colour})`);
        const value = document.createElement("strong");
        value.textContent = format.none;
        reading.append(value);
        if (label) reading.append(` ${label}`);
        this.#readings.push(value);
        return reading;
      }),
    );
  }

  #part(name) {
    return this.figure.querySelector(`.${name}`);
  }

  // draw replaces the plot with a new one in the current theme.
  draw(range, data, onCursor) {
    this.plot?.destroy();
    const target = this.#part("plot");
    const font = `11px ${getComputedStyle(document.body).fontFamily}`;
    const muted = colour("--muted", target);
    const line = colour("--line", target);
    const { format, least, series, whole } = this.#config;
    const options = {
      width: this.width,
      height,
      padding: [8, 2, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: "peald" }, drag: { x: false, y: false }, y: false, points: { size: 7 } },
      scales: {
        x: { range },
        y: { range: (_, __, max) => [0, Math.max(least, (max ?? 0) * 1.12)] },
      },
      axes: [
        { stroke: muted, font, size: 22, gap: 3, space: 70, grid: { show: false }, ticks: { show: false }, values: timeLabels },
        { stroke: muted, font, size: labelSize, gap: axisGap, space: 22, ...(whole && { incrs: wholeSteps }), grid: { stroke: line, width: 1 }, ticks: { show: false }, values: (_, values) => values.map(format) },
      ],
      series: [{}, ...series.map(({ key, label, colour: name, fill }) => {
        const stroke = colour(name, target);
        return { label: label ?? key, stroke, width: 2, points: { show: false }, fill: fill && areaOf(stroke) };
      })],
      hooks: { setCursor: [(plot) => onCursor(plot.cursor.idx)] },
    };
    target.style.color = "";
    this.plot = new uPlot(options, this.dataOf(data), target);
  }

  get width() {
    return Math.max(this.#part("plot").clientWidth, 160);
  }

  resize() {
    this.plot.setSize({ width: this.width, height });
  }

  dataOf(samples) {
    return [samples.map(({ at }) => at), ...this.#config.series.map(({ key }) => samples.map((sample) => sample[key]))];
  }

  read(sample) {
    this.#config.series.forEach(({ key }, i) => {
      this.#readings[i].textContent = this.#config.format(sample?.[key] ?? null);
    });
  }

  // describe updates the note, and the description for screen readers.
  describe(stats, latest, samples) {
    if (stats) this.#part("note").textContent = this.#config.note(stats, latest);
    const words = this.#config.series.map(({ key, label }) => {
      const values = samples.map((sample) => sample[key]).filter((value) => value !== null);
      if (values.length === 0) return `${label ?? ""} no data yet`.trim();
      const text = this.#config.format;
      return `${label ? `${label} ` : ""}now ${text(latest?.[key] ?? null)}, from ${text(Math.min(...values))} to ${text(Math.max(...values))}`;
    });
    this.#part("plot").ariaLabel = `${this.#config.name}: ${words.join("; ")}`;
  }
}

export class Charts {
  #stats;
  #panels = panels.map((config) => new Panel(config));
  #seconds = 180; // the chosen time range
  #cursor = null; // index of the sample under the cursor
  #visible = true; // whether any chart is in the window
  #described = 0;

  constructor(stats) {
    this.#stats = stats;
    const root = document.getElementById("charts");
    root.append(...this.#panels.map(({ figure }) => figure));
    this.#buildTable();
    this.#redraw();
    addEventListener("theme", () => this.#redraw());
    new ResizeObserver(() => {
      for (const panel of this.#panels) panel.resize();
    }).observe(root);
    new IntersectionObserver((entries) => {
      this.#visible = entries.at(-1).isIntersecting;
      this.#plot();
    }).observe(root);
    for (const input of document.querySelectorAll("#span input")) {
      input.addEventListener("change", () => {
        this.#seconds = Number(input.value);
        this.#redraw();
        this.update();
      });
    }
  }

  // range returns the ends of the time axis, in seconds. While there are few
  // samples, they fill the charts.
  #range() {
    const { samples } = this.#stats;
    const end = samples.at(-1)?.at ?? Date.now() / 1000;
    const past = end - (samples[0]?.at ?? end);
    return [end - Math.min(this.#seconds, Math.max(leastSeconds, past)), end];
  }

  #redraw() {
    for (const panel of this.#panels) panel.draw(() => this.#range(), this.#stats.samples, (i) => this.#point(i));
  }

  #point(i) {
    this.#cursor = i ?? null;
    this.#read();
  }

  #read() {
    const { samples } = this.#stats;
    const under = this.#cursor === null ? null : samples[this.#cursor];
    for (const panel of this.#panels) panel.read(under ?? samples.at(-1));
    document.getElementById("at").textContent = under ? `at ${format.clock(new Date(under.at * 1000))}` : "";
  }

  // plot draws the samples, unless no chart is visible: drawing is most of the
  // work of an update.
  #plot() {
    if (!this.#visible) return;
    for (const panel of this.#panels) panel.plot.setData(panel.dataOf(this.#stats.samples));
  }

  update() {
    const { samples, latest } = this.#stats;
    this.#plot();
    this.#read();
    const now = performance.now();
    // Text that changes every second is unreadable.
    if (now - this.#described > 5000 || this.#described === 0) {
      const [from] = this.#range();
      const shown = samples.filter(({ at }) => at >= from);
      for (const panel of this.#panels) panel.describe(latest, samples.at(-1), shown);
      if (latest) this.#described = now;
    }
    this.#fillTable();
  }

  #buildTable() {
    const names = panels.flatMap(({ name, series }) => series.map(({ label }) => (label ? `${name} ${label}` : name)));
    document.getElementById("samples-head").replaceChildren(
      ...["Time", ...names].map((name, i) => {
        const head = document.createElement("th");
        head.scope = "col";
        head.className = i === 0 ? "" : "number";
        head.textContent = name;
        return head;
      }),
    );
    const button = document.getElementById("as-table");
    button.addEventListener("click", () => {
      const shown = button.ariaPressed !== "true";
      button.ariaPressed = String(shown);
      document.getElementById("samples").hidden = !shown;
      document.getElementById("charts").hidden = shown;
      this.#fillTable();
    });
  }

  #fillTable() {
    if (document.getElementById("samples").hidden) return;
    const step = Math.max(1, this.#seconds / 60);
    const [from] = this.#range();
    const shown = this.#stats.samples.filter(({ at, streams }) => at >= from && streams !== null).reverse();
    const rows = shown.filter((_, i) => i % step === 0).map((sample) => {
      const row = document.createElement("tr");
      const time = document.createElement("th");
      time.scope = "row";
      time.textContent = format.clock(new Date(sample.at * 1000));
      row.append(time, ...panels.flatMap(({ format, series }) => series.map(({ key }) => {
        const cell = document.createElement("td");
        cell.className = "number";
        cell.textContent = format(sample[key]);
        return cell;
      })));
      return row;
    });
    document.getElementById("samples-rows").replaceChildren(...rows);
  }
}
