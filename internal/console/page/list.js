// A table that lists users, topics or subscribers, page by page, filtered by prefix.

import { Menu } from "/console/menu.js";

const pageSize = 10;
const interval = 2000; // milliseconds between two requests
const typingPause = 200; // milliseconds to wait for more letters

// List keeps the rows of entries that remain, so that their buttons keep the
// focus.
export class List {
  #control;
  #config;
  #root;
  #search;
  #previous;
  #next;
  #found;
  #menu;
  #before = []; // the page tokens of the previous pages
  #token = "";
  #nextToken = "";
  #timer = 0;
  #turn = 0; // number of the current chain of requests
  #stopped = true;

  // config holds a function that returns the path of the list, the field of the reply
  // that holds the entries (rows), and the key of an entry. It also holds a function
  // that fills a row from an entry, and the text for an empty list (none). Optional are
  // the function act for the buttons of rows, and the function replied, which receives
  // each reply that is shown.
  constructor(control, root, template, config) {
    this.#control = control;
    this.#config = { ...config, template: template.content.firstElementChild };
    this.#root = root;
    this.#search = root.querySelector("input[type=search]");
    this.#previous = root.querySelector(".previous");
    this.#next = root.querySelector(".next");
    this.#found = root.querySelector(".found");
    const menu = root.querySelector(".menu");
    if (menu) this.#menu = new Menu(menu, config.act);
    this.#search.addEventListener("input", () => {
      this.#before = [];
      this.#token = "";
      this.#schedule(typingPause);
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
      const button = target.closest("button");
      const row = target.closest("tr");
      if (button?.matches(".more")) this.#menu.fill(button, row);
      else if (button) this.#config.act(button.dataset.act, row.dataset.key);
    });
    document.addEventListener("visibilitychange", () => this.#stopped || this.refresh());
  }

  // restart shows the first page of another list, without a filter.
  restart() {
    this.#before = [];
    this.#token = "";
    this.#search.value = "";
    this.#root.querySelector("tbody").replaceChildren();
    this.#root.querySelector(".empty").hidden = true;
    this.#announce("");
    this.refresh();
  }

  refresh() {
    this.#stopped = false;
    this.#schedule(0);
  }

  stop() {
    this.#stopped = true;
    this.#cancel();
  }

  #cancel() {
    clearTimeout(this.#timer);
    this.#turn++;
  }

  #schedule(wait) {
    this.#cancel();
    const turn = this.#turn;
    if (!document.hidden) this.#timer = setTimeout(() => this.#request(turn), wait);
  }

  async #request(turn) {
    const prefix = this.#search.value;
    try {
      const reply = await this.#control.get(this.#config.path(), { prefix, page_size: pageSize, page_token: this.#token });
      if (turn !== this.#turn) return;
      this.#config.replied?.(reply);
      this.#show(reply[this.#config.rows], reply.nextPageToken, prefix);
    } catch (error) {
      if (turn !== this.#turn) return;
      if (error.status === 401 || error.status === 403) return; // the session reports it and restarts the list
      this.#announce(error.message);
    }
    this.#schedule(interval);
  }

  #show(rows, nextToken, prefix) {
    if (rows.length === 0 && this.#before.length > 0) {
      // All entries of this page are gone.
      this.#token = this.#before.pop();
      this.refresh();
      return;
    }
    this.#nextToken = nextToken;
    this.#updatePages();
    const body = this.#root.querySelector("tbody");
    const old = new Map([...body.children].map((row) => [row.dataset.key, row]));
    const shown = rows.map((entry) => {
      const key = this.#config.key(entry);
      const row = old.get(key) ?? this.#newRow(key);
      this.#config.fill(row, entry);
      return row;
    });
    // Moving a row would take the focus from its buttons.
    for (const row of [...body.children]) if (!shown.includes(row)) row.remove();
    shown.forEach((row, i) => {
      if (body.children[i] !== row) body.insertBefore(row, body.children[i] ?? null);
    });
    const empty = this.#root.querySelector(".empty");
    empty.hidden = rows.length > 0;
    empty.textContent = prefix ? `No match for “${prefix}”` : this.#config.none;
    this.#root.querySelector("table").hidden = rows.length === 0;
    const from = this.#before.length * pageSize;
    this.#announce(rows.length === 0 ? "none" : `${from + 1} to ${from + rows.length}${nextToken ? ", more available" : ""}`);
  }

  #updatePages() {
    // A button loses focus when it is disabled.
    const [first, last] = [this.#before.length === 0, this.#nextToken === ""];
    if (first && document.activeElement === this.#previous) this.#search.focus();
    if (last && document.activeElement === this.#next) (first ? this.#search : this.#previous).focus();
    this.#previous.disabled = first;
    this.#next.disabled = last;
  }

  #newRow(key) {
    const row = this.#config.template.cloneNode(true);
    row.dataset.key = key;
    row.querySelector(".key").textContent = key;
    for (const button of row.querySelectorAll("[data-act]")) button.ariaLabel = `${button.textContent}: ${key}`;
    const more = row.querySelector(".more");
    if (more) {
      more.ariaLabel = `Actions: ${key}`;
      this.#menu.attach(more);
    }
    return row;
  }

  // announce changes the status only if the text differs, since screen readers
  // read it again at each change.
  #announce(text) {
    if (this.#found.textContent !== text) this.#found.textContent = text;
  }
}
