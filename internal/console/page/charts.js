// Four charts that share their time and their cursor, and the same as a table.

import * as format from "/console/format.js";
import uPlot from "/console/uplot/uPlot.esm.js";

const height = 132;

// panels are the charts: what each shows, in which of the style's colours.
const panels = [
  {
    name: "Streams",
    format: format.count,
    series: [{ key: "streams", colour: "--streams", fill: true }],
    note: (stats) => `of ${format.count(stats.maxConnections)} · ${format.count(stats.users)} ${stats.users === 1 ? "user" : "users"}`,
    least: 4,
    whole: true,
  },
  {
    name: "Deliveries a second",
    format: format.rate,
    series: [{ key: "delivered", colour: "--deliveries", fill: true }],
    note: (stats, latest) => `${format.rate(latest?.published ?? null)} published a second`,
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
    note: () => "published to handed over",
    least: 1e-4,
  },
  {
    name: "Drops a second",
    format: format.rate,
    series: [{ key: "dropped", colour: "--drops", fill: true }],
    note: (stats) => `${format.count(Object.values(stats.total.dropped).reduce((n, m) => n + Number(m), 0))} since the start`,
    least: 1,
  },
];

// wholeSteps are the distances that axes of counts may have between two labels.
const wholeSteps = Array.from({ length: 12 }, (_, i) => [1, 2, 5].map((n) => n * 10 ** i)).flat();

// colour resolves one of the style's, as canvases have to be given them.
function colour(name, probe) {
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

const faded = (rgb, share) => rgb.replace(/^rgba?\(([^)]*)\)$/, (_, parts) => `rgba(${parts.split(",").slice(0, 3).join(",")}, ${share})`);

class Panel {
  plot = null;
  figure = document.getElementById("chart-template").content.firstElementChild.cloneNode(true);
  #of;
  #readings = [];

  constructor(of) {
    this.#of = of;
    this.#part("name").textContent = of.name;
    this.#part("readings").replaceChildren(
      ...of.series.map(({ label, colour }) => {
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

  // draw begins anew, in the colours that hold now.
  draw(span, data, onCursor) {
    this.plot?.destroy();
    const into = this.#part("plot");
    const font = `11px ${getComputedStyle(document.body).fontFamily}`;
    const muted = colour("--muted", into);
    const line = colour("--line", into);
    const { format, least, series, whole } = this.#of;
    const options = {
      width: Math.max(into.clientWidth, 160),
      height,
      padding: [8, 32, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: "peald" }, drag: { x: false, y: false }, y: false, points: { size: 7 } },
      scales: {
        x: { range: () => [span.end() - span.seconds, span.end()] },
        y: { range: (_, __, max) => [0, Math.max(least, (max ?? 0) * 1.12)] },
      },
      axes: [
        { stroke: muted, font, size: 22, gap: 3, space: 70, grid: { show: false }, ticks: { show: false }, values: (_, at) => at.map((t) => new Date(t * 1000).toLocaleTimeString("en-GB", span.seconds > 180 ? { hour: "2-digit", minute: "2-digit" } : {})) },
        { stroke: muted, font, size: 50, gap: 4, space: 28, ...(whole && { incrs: wholeSteps }), grid: { stroke: line, width: 1 }, ticks: { show: false }, values: (_, values) => values.map(format) },
      ],
      series: [{}, ...series.map(({ key, label, colour: name, fill }) => {
        const stroke = colour(name, into);
        return { label: label ?? key, stroke, width: 2, points: { show: false }, fill: fill && ((u) => {
          const shade = u.ctx.createLinearGradient(0, u.bbox.top, 0, u.bbox.top + u.bbox.height);
          shade.addColorStop(0, faded(stroke, 0.28));
          shade.addColorStop(1, faded(stroke, 0.02));
          return shade;
        }) };
      })],
      hooks: { setCursor: [(u) => onCursor(u.cursor.idx)] },
    };
    into.style.color = "";
    this.plot = new uPlot(options, this.dataOf(data), into);
  }

  dataOf(samples) {
    return [samples.map(({ at }) => at), ...this.#of.series.map(({ key }) => samples.map((sample) => sample[key]))];
  }

  read(sample) {
    this.#of.series.forEach(({ key }, i) => {
      this.#readings[i].textContent = this.#of.format(sample?.[key] ?? null);
    });
  }

  // describe says in words what the chart shows.
  describe(stats, latest, samples) {
    if (stats) this.#part("note").textContent = this.#of.note(stats, latest);
    const words = this.#of.series.map(({ key, label }) => {
      const values = samples.map((sample) => sample[key]).filter((value) => value !== null);
      if (values.length === 0) return `${label ?? ""} nothing to tell yet`.trim();
      const told = (value) => this.#of.format(value);
      return `${label ? `${label} ` : ""}now ${told(latest?.[key] ?? null)}, from ${told(Math.min(...values))} to ${told(Math.max(...values))}`;
    });
    this.#part("plot").ariaLabel = `${this.#of.name}: ${words.join("; ")}`;
  }
}

export class Charts {
  #figures;
  #panels = panels.map((of) => new Panel(of));
  #span = { seconds: 180, end: () => this.#figures.samples.at(-1)?.at ?? Date.now() / 1000 };
  #cursor = null; // the index of the sample under it
  #described = 0;

  constructor(figures) {
    this.#figures = figures;
    const root = document.getElementById("charts");
    root.append(...this.#panels.map(({ figure }) => figure));
    this.#buildTable();
    this.#redraw();
    addEventListener("theme", () => this.#redraw());
    new ResizeObserver(() => {
      for (const { plot, figure } of this.#panels) plot.setSize({ width: Math.max(figure.querySelector(".plot").clientWidth, 160), height });
    }).observe(root);
    for (const input of document.querySelectorAll("#span input")) {
      input.addEventListener("change", () => {
        this.#span.seconds = Number(input.value);
        this.#redraw();
        this.update();
      });
    }
  }

  #redraw() {
    for (const panel of this.#panels) panel.draw(this.#span, this.#figures.samples, (i) => this.#point(i));
  }

  #point(i) {
    this.#cursor = i ?? null;
    this.#read();
  }

  #read() {
    const { samples } = this.#figures;
    const under = this.#cursor === null ? null : samples[this.#cursor];
    for (const panel of this.#panels) panel.read(under ?? samples.at(-1));
    document.getElementById("at").textContent = under ? `at ${format.clock(new Date(under.at * 1000))}` : "";
  }

  update() {
    const { samples, stats } = this.#figures;
    for (const panel of this.#panels) panel.plot.setData(panel.dataOf(samples));
    this.#read();
    const now = performance.now();
    // A text that changes all the time can't be read.
    if (now - this.#described > 5000 || this.#described === 0) {
      const from = this.#span.end() - this.#span.seconds;
      const shown = samples.filter(({ at }) => at >= from);
      for (const panel of this.#panels) panel.describe(stats, samples.at(-1), shown);
      if (stats) this.#described = now;
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
    const step = Math.max(1, this.#span.seconds / 60);
    const from = this.#span.end() - this.#span.seconds;
    const shown = this.#figures.samples.filter(({ at, streams }) => at >= from && streams !== null).reverse();
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
