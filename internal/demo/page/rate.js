// A bar chart of events per second over the last minute.

const seconds = 60;
const width = 240;
const height = 48;
const kinds = ["broadcast", "user", "topic"];

const emptyColumn = () => ({ broadcast: 0, user: 0, topic: 0 });
const total = (column) => kinds.reduce((sum, kind) => sum + column[kind], 0);

export class Rate {
  #figure;
  #text;
  #now = Math.floor(Date.now() / 1000);
  #columns = Array.from({ length: seconds }, emptyColumn);

  constructor(figure, text) {
    this.#figure = figure;
    this.#text = text;
    this.#draw();
    setInterval(() => {
      if (this.#advance()) this.#draw();
    }, 250);
  }

  count(kind) {
    this.#advance();
    this.#columns.at(-1)[kind]++;
    this.#draw();
  }

  #advance() {
    const now = Math.floor(Date.now() / 1000);
    const passed = Math.min(now - this.#now, seconds);
    for (let i = 0; i < passed; i++) {
      this.#columns.shift();
      this.#columns.push(emptyColumn());
    }
    this.#now = now;
    return passed > 0;
  }

  #draw() {
    const unit = height / Math.max(4, ...this.#columns.map(total));
    const step = width / seconds;
    const bars = [];
    this.#columns.forEach((column, i) => {
      let top = height;
      for (const kind of kinds) {
        if (column[kind] === 0) continue;
        const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
        const tall = column[kind] * unit;
        top -= tall;
        for (const [name, value] of Object.entries({ x: i * step, y: top, width: step - 1, height: tall, class: kind })) {
          bar.setAttribute(name, value);
        }
        bars.push(bar);
      }
    });
    this.#figure.replaceChildren(...bars);
    const sum = this.#columns.reduce((n, column) => n + total(column), 0);
    this.#text.textContent = sum === 0 ? "no events" : `${sum} event${sum === 1 ? "" : "s"}`;
  }
}
