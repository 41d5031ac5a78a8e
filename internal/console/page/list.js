// A table of what the daemon lists, a page at a time, with a search.

const pageSize = 10;
const every = 2000; // milliseconds between two looks
const typing = 200; // milliseconds to wait for more letters

// List keeps the rows of what is still there, so that a focus on one of their
// buttons stays.
export class List {
  #control;
  #of;
  #root;
  #search;
  #previous;
  #next;
  #found;
  #before = []; // the page tokens of the pages before this one
  #token = "";
  #nextToken = "";
  #timer = 0;
  #turn = 0;
  #failed = "";

  // of says what is listed: path, the reply's field of rows, key of a row, fill
  // of a row's cells, act on a row's button, and words for what there is.
  constructor(control, root, template, of) {
    this.#control = control;
    this.#of = { ...of, template: template.content.firstElementChild };
    this.#root = root;
    this.#search = root.querySelector("input[type=search]");
    this.#previous = root.querySelector(".previous");
    this.#next = root.querySelector(".next");
    this.#found = root.querySelector(".found");
    this.#search.addEventListener("input", () => {
      this.#before = [];
      this.#token = "";
      this.#later(typing);
    });
    this.#next.addEventListener("click", () => {
      this.#before.push(this.#token);
      this.#token = this.#nextToken;
      this.refresh();
    });
    this.#previous.addEventListener("click", () => {
      this.#token = this.#before.pop();
      this.refresh();
    });
    root.querySelector("tbody").addEventListener("click", ({ target }) => {
      const act = target.closest("button")?.dataset.act;
      if (act) this.#of.act(act, target.closest("tr").dataset.key);
    });
    document.addEventListener("visibilitychange", () => this.refresh());
  }

  refresh() {
    this.#later(0);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#turn++;
  }

  #later(wait) {
    this.stop();
    const turn = this.#turn;
    if (!document.hidden) this.#timer = setTimeout(() => this.#look(turn), wait);
  }

  async #look(turn) {
    const prefix = this.#search.value;
    try {
      const reply = await this.#control.get(this.#of.path, { prefix, page_size: pageSize, page_token: this.#token });
      if (turn !== this.#turn) return;
      this.#show(reply[this.#of.rows], reply.nextPageToken, prefix);
    } catch (error) {
      if (turn !== this.#turn) return;
      this.#failed = error.message;
      if (error.status === 401 || error.status === 403) return; // the page says so, and begins again
      this.#tell(error.message);
    }
    this.#later(every);
  }

  #show(rows, nextToken, prefix) {
    if (rows.length === 0 && this.#before.length > 0) {
      // All of this page have gone.
      this.#token = this.#before.pop();
      this.refresh();
      return;
    }
    this.#nextToken = nextToken;
    this.#turnPages();
    const body = this.#root.querySelector("tbody");
    const old = new Map([...body.children].map((row) => [row.dataset.key, row]));
    const shown = rows.map((of) => {
      const key = this.#of.key(of);
      const row = old.get(key) ?? this.#newRow(key);
      this.#of.fill(row, of);
      return row;
    });
    // Rows that stay are not moved, for that would take the focus off them.
    for (const row of [...body.children]) if (!shown.includes(row)) row.remove();
    shown.forEach((row, i) => {
      if (body.children[i] !== row) body.insertBefore(row, body.children[i] ?? null);
    });
    const empty = this.#root.querySelector(".empty");
    empty.hidden = rows.length > 0;
    empty.textContent = prefix ? `None begins with “${prefix}”.` : this.#of.none;
    this.#root.querySelector("table").hidden = rows.length === 0;
    const from = this.#before.length * pageSize;
    this.#tell(rows.length === 0 ? "none" : `${from + 1} to ${from + rows.length}${nextToken ? ", and more" : ""}`);
  }

  #turnPages() {
    // A button that gets disabled loses the focus to nowhere.
    const [previous, next] = [this.#before.length === 0, this.#nextToken === ""];
    if (previous && document.activeElement === this.#previous) this.#search.focus();
    if (next && document.activeElement === this.#next) (previous ? this.#search : this.#previous).focus();
    this.#previous.disabled = previous;
    this.#next.disabled = next;
  }

  #newRow(key) {
    const row = this.#of.template.cloneNode(true);
    row.dataset.key = key;
    row.querySelector(".key").textContent = key;
    for (const button of row.querySelectorAll("button")) button.ariaLabel = `${button.textContent}: ${key}`;
    return row;
  }

  #tell(text) {
    // Said again, it would be read out again.
    if (this.#found.textContent !== text) this.#found.textContent = text;
  }
}
