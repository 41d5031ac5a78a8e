// The dialog with the messages that the history holds for a topic.

import * as format from "/console/format.js";
import { renderMessage } from "/console/message.js";

const pageSize = 20;

const element = (id) => document.getElementById(`history-${id}`);

export class History {
  #control;
  #dialog = element("dialog");
  #topic = "";
  #token = ""; // of the next page
  #turn = 0; // number of the latest request

  constructor(control) {
    this.#control = control;
    element("close").addEventListener("click", () => this.#dialog.close());
    element("refresh").addEventListener("click", () => this.#start());
    element("older").addEventListener("click", () => this.#load());
    for (const input of this.#dialog.querySelectorAll("input")) input.addEventListener("change", () => this.#start());
    this.#dialog.addEventListener("close", () => this.#clear());
  }

  // of shows the messages to a topic.
  of(topic) {
    this.#topic = topic;
    element("topic").textContent = topic;
    this.#dialog.querySelector("[value=history]").checked = true;
    this.#dialog.showModal();
    this.#start();
  }

  get #retained() {
    return this.#dialog.querySelector("[value=retained]").checked;
  }

  #clear() {
    this.#turn++;
    this.#token = "";
    element("list").replaceChildren();
    element("state").textContent = "";
    element("problem").textContent = "";
    element("empty").hidden = true;
    element("older").hidden = true;
  }

  #start() {
    this.#clear();
    this.#load();
  }

  // load displays the next page, and its newest message first.
  async #load() {
    const turn = ++this.#turn;
    const retained = this.#retained;
    const query = { order: "newest", page_size: pageSize, page_token: this.#token, retained };
    try {
      const { messages, nextPageToken } = await this.#control.get(`/v1/topics/${encodeURIComponent(this.#topic)}/messages`, query);
      if (turn === this.#turn) this.#show(messages, nextPageToken, retained);
    } catch (error) {
      if (turn === this.#turn) element("problem").textContent = error.message;
    }
  }

  #show(messages, nextToken, retained) {
    const list = element("list");
    const items = messages.map((message) => renderMessage(message, message.event));
    for (const item of items) item.classList.add("for-topic");
    list.append(...items);
    this.#token = nextToken;
    const older = element("older");
    // A button loses the focus when it is hidden.
    if (nextToken === "" && document.activeElement === older) element("close").focus();
    older.hidden = nextToken === "";
    element("problem").textContent = "";
    const shown = list.children.length;
    element("empty").hidden = shown > 0;
    element("empty").textContent = retained ? "There are no retained values." : "The history holds no messages.";
    element("state").textContent = shown === 0 ? "" : `${format.count(shown)} shown, newest first${nextToken ? "; older ones are available" : ""}`;
  }
}
