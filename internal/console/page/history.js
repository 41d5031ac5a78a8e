// The dialog with the messages that the history holds for an audience, and with its
// retained values. For a pattern, and for all audiences, it lists the audiences that
// have retained values.

import * as format from "/console/format.js";
import { audiences, isPattern } from "/console/audiences.js";
import { renderMessage } from "/console/message.js";

const pageSize = 20;

// The label of the name of each audience in the dialog.
const labels = { topic: "Topic or pattern", user: "User" };

const element = (id) => document.getElementById(`history-${id}`);

export class History {
  #control;
  #clear;
  #dialog = element("dialog");
  #of = null; // the audience that is shown: its kind and name
  #token = ""; // of the next page
  #turn = 0; // number of the latest request
  #note = ""; // precedes the number of messages

  // clear asks before it clears retained values.
  constructor(control, clear) {
    this.#control = control;
    this.#clear = clear;
    element("button").addEventListener("click", () => this.of("topic", ""));
    element("of").addEventListener("change", () => {
      this.#showAudience();
      if (element("target").hidden) this.#submit();
      else element("target").focus();
    });
    element("form").addEventListener("submit", (submit) => {
      submit.preventDefault();
      this.#submit();
    });
    for (const input of element("source").querySelectorAll("input")) input.addEventListener("change", () => this.#start());
    element("refresh").addEventListener("click", () => this.#start());
    element("older").addEventListener("click", () => this.#load());
    element("clear").addEventListener("click", () => this.#clearAll());
    element("close").addEventListener("click", () => this.#dialog.close());
    this.#dialog.addEventListener("close", () => {
      // The browser fires the event later, when the dialog may be open again.
      if (!this.#dialog.open) this.#reset();
    });
  }

  // of shows the messages to a user or a topic. Without a name, it asks for one.
  of(kind, name) {
    element("of").value = kind;
    element("target").value = name;
    const history = element("source").querySelector("[value=history]");
    history.checked = true;
    history.disabled = false;
    this.#of = null;
    this.#showAudience();
    this.#reset();
    this.#dialog.showModal();
    if (name === "") element("target").focus();
    else this.#submit();
  }

  get #retained() {
    return element("source").querySelector("[value=retained]").checked;
  }

  #showAudience() {
    const label = labels[element("of").value];
    element("target").hidden = !label;
    element("target-label").textContent = label ?? "Name";
    element("target").placeholder = label ?? "";
  }

  #submit() {
    const kind = element("of").value;
    this.#of = { kind, name: labels[kind] ? element("target").value : "" };
    const [history, retained] = element("source").querySelectorAll("input");
    if (this.#listing) retained.checked = true;
    history.disabled = this.#listing;
    this.#start();
  }

  // listing reports whether the dialog lists audiences.
  get #listing() {
    return this.#of !== null && (this.#of.kind === "all" || (this.#of.kind === "topic" && isPattern(this.#of.name)));
  }

  #reset() {
    this.#turn++;
    this.#token = "";
    element("list").replaceChildren();
    element("state").textContent = "";
    element("problem").textContent = "";
    this.#showTargetProblem("");
    for (const part of ["empty", "older", "clear"]) element(part).hidden = true;
    element("refresh").disabled = this.#of === null;
    const source = this.#retained ? "Retained values" : "History";
    element("title").textContent = this.#of === null ? "Messages" : `${source} of ${this.#described}`;
  }

  get #described() {
    return this.#of.kind === "all" ? "all audiences" : audiences[this.#of.kind].describe(this.#of.name);
  }

  #start() {
    this.#reset();
    if (this.#of === null) return;
    const label = labels[this.#of.kind];
    if (label && this.#of.name === "") {
      this.#of = null;
      this.#reset();
      this.#showTargetProblem(`Enter a ${label.toLowerCase()}`);
      return;
    }
    this.#load();
  }

  #showTargetProblem(problem) {
    element("target").ariaInvalid = problem === "" ? null : "true";
    element("target-problem").textContent = problem;
    if (problem !== "") element("target").focus();
  }

  // load displays the next page: messages, the newest first, or audiences.
  async #load() {
    const turn = ++this.#turn;
    const { kind, name } = this.#of;
    try {
      const page = { page_size: pageSize, page_token: this.#token };
      const { items, nextPageToken } = this.#listing ? await this.#audiences(page, name) : await this.#messages(page);
      if (turn === this.#turn) this.#show(items, nextPageToken);
    } catch (error) {
      if (turn !== this.#turn) return;
      const problem = error.fields?.[audiences[kind]?.field];
      if (problem) this.#showTargetProblem(problem);
      else element("problem").textContent = error.message;
    }
  }

  async #messages(page) {
    const { kind, name } = this.#of;
    const query = { ...page, order: "newest", retained: this.#retained };
    const { messages, nextPageToken } = await this.#control.get(audiences[kind].messages(name), query);
    return { items: messages.map((message) => this.#render(message)), nextPageToken };
  }

  async #audiences(page, topic) {
    const reply = await this.#control.get("/v1/retained", { ...page, topic });
    return { items: reply.audiences.map((audience) => this.#renderAudience(audience)), nextPageToken: reply.nextPageToken };
  }

  #show(items, nextToken) {
    const list = element("list");
    list.append(...items);
    this.#token = nextToken;
    const older = element("older");
    // A button loses the focus when it is hidden.
    if (nextToken === "" && document.activeElement === older) element("close").focus();
    older.hidden = nextToken === "";
    older.textContent = this.#listing ? "Show more" : "Show older";
    list.reversed = !this.#listing;
    element("scroll").ariaLabel = this.#listing ? "Audiences" : "Messages, newest first";
    element("problem").textContent = "";
    const shown = list.children.length;
    element("clear").hidden = !this.#retained || shown === 0 || (this.#listing && this.#of.kind !== "all");
    element("empty").hidden = shown > 0;
    element("empty").textContent = this.#retained ? "There are no retained values." : "The history holds no messages.";
    const [order, more] = this.#listing ? ["by name", "more"] : ["newest first", "older ones"];
    const count = shown === 0 ? "" : `${format.count(shown)} shown, ${order}${nextToken ? `; ${more} are available` : ""}`;
    element("state").textContent = `${this.#note} ${count}`.trim();
    this.#note = "";
  }

  #render(message) {
    const key = message.conflateKey ?? "";
    const item = renderMessage(message, [message.event, ...(key === "" ? [] : [`key ${key}`]), ...(message.final ? ["final"] : [])].join(" · "));
    if (message.expireTime) {
      const left = format.duration(Date.parse(message.expireTime) - Date.now());
      item.querySelector(".recipients").textContent = `expires in ${left} ·`;
    }
    item.classList.toggle("for-one", this.#of.kind === "user");
    item.classList.toggle("for-topic", this.#of.kind === "topic");
    if (this.#retained) {
      const button = document.getElementById("clear-template").content.firstElementChild.cloneNode(true);
      const what = `the value ${key === "" ? "without a key" : `with the key ${key}`} of ${this.#described}`;
      button.ariaLabel = `Clear ${what}`;
      button.addEventListener("click", () => this.#ask(what, { conflate_key: key }));
      item.querySelector(".meta").append(" ", button);
    }
    return item;
  }

  // renderAudience returns a list item for an audience, with a button that shows its
  // values.
  #renderAudience({ userId, topic, events, bytes }) {
    const [kind, name] = userId !== undefined ? ["user", userId] : topic !== undefined ? ["topic", topic] : ["everyone", ""];
    const item = document.getElementById("audience-template").content.firstElementChild.cloneNode(true);
    const described = audiences[kind].describe(name);
    item.classList.toggle("for-one", kind === "user");
    item.classList.toggle("for-topic", kind === "topic");
    item.querySelector(".badge").textContent = described;
    item.querySelector(".values").textContent = `${format.count(Number(events))} ${events === "1" ? "value" : "values"} · ${format.bytes(Number(bytes))}`;
    const open = item.querySelector("button");
    open.ariaLabel = `Open: ${described}`;
    open.addEventListener("click", () => {
      element("of").value = kind;
      element("target").value = name;
      this.#showAudience();
      element("refresh").focus(); // the button is about to be removed
      this.#submit();
    });
    return item;
  }

  #clearAll() {
    this.#ask(`all retained values of ${this.#described}`, this.#of.kind === "all" ? { all: true } : {});
  }

  #ask(what, query) {
    const path = this.#of.kind === "all" ? "/v1/retained" : audiences[this.#of.kind].retained(this.#of.name);
    this.#clear.ask(what, path, query, (cleared) => {
      // The list, and perhaps the button that has the focus, are about to be replaced.
      element("refresh").focus();
      this.#note = `Cleared ${format.count(cleared)} ${cleared === 1 ? "value" : "values"}.`;
      this.#start();
    });
  }
}
