// The dialog with the messages that the history holds for an audience, and with its
// retained values.

import * as format from "/console/format.js";
import { audiences } from "/console/audiences.js";
import { renderMessage } from "/console/message.js";

const pageSize = 20;

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
    this.#dialog.addEventListener("close", () => this.#reset());
  }

  // of shows the messages to a user or a topic. Without a name, it asks for one.
  of(kind, name) {
    element("of").value = kind;
    element("target").value = name;
    element("source").querySelector("[value=history]").checked = true;
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
    const { label } = audiences[element("of").value];
    element("target").hidden = !label;
    element("target-label").textContent = label ?? "Name";
    element("target").placeholder = label ?? "";
  }

  #submit() {
    const kind = element("of").value;
    const { label } = audiences[kind];
    this.#of = { kind, name: label ? element("target").value : "" };
    this.#start();
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
    return audiences[this.#of.kind].describe(this.#of.name);
  }

  #start() {
    this.#reset();
    if (this.#of === null) return;
    const { label } = audiences[this.#of.kind];
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

  // load displays the next page, and its newest message first.
  async #load() {
    const turn = ++this.#turn;
    const { kind, name } = this.#of;
    const { messages: path, field } = audiences[kind];
    const query = { order: "newest", page_size: pageSize, page_token: this.#token, retained: this.#retained };
    try {
      const { messages, nextPageToken } = await this.#control.get(path(name), query);
      if (turn === this.#turn) this.#show(messages, nextPageToken);
    } catch (error) {
      if (turn !== this.#turn) return;
      const problem = error.fields?.[field];
      if (problem) this.#showTargetProblem(problem);
      else element("problem").textContent = error.message;
    }
  }

  #show(messages, nextToken) {
    const list = element("list");
    list.append(...messages.map((message) => this.#render(message)));
    this.#token = nextToken;
    const older = element("older");
    // A button loses the focus when it is hidden.
    if (nextToken === "" && document.activeElement === older) element("close").focus();
    older.hidden = nextToken === "";
    element("problem").textContent = "";
    const shown = list.children.length;
    element("clear").hidden = !this.#retained || shown === 0;
    element("empty").hidden = shown > 0;
    element("empty").textContent = this.#retained ? "There are no retained values." : "The history holds no messages.";
    const count = shown === 0 ? "" : `${format.count(shown)} shown, newest first${nextToken ? "; older ones are available" : ""}`;
    element("state").textContent = `${this.#note} ${count}`.trim();
    this.#note = "";
  }

  #render(message) {
    const key = message.conflateKey ?? "";
    const item = renderMessage(message, key === "" ? message.event : `${message.event} · key ${key}`);
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

  #clearAll() {
    this.#ask(`all retained values of ${this.#described}`, {});
  }

  #ask(what, query) {
    const path = audiences[this.#of.kind].retained(this.#of.name);
    this.#clear.ask(what, path, query, (cleared) => {
      // The list, and perhaps the button that has the focus, are about to be replaced.
      element("refresh").focus();
      this.#note = `Cleared ${format.count(cleared)} ${cleared === 1 ? "value" : "values"}.`;
      this.#start();
    });
  }
}
