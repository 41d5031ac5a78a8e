// The live tail of what is published.

import * as format from "/console/format.js";
import { Newest } from "/console/newest.js";
import { Refusal } from "/console/control.js";

const patience = 2000; // milliseconds, before it goes on where it was cut off
const longest = 2000; // characters of data that are shown

const element = (id) => document.getElementById(`tail-${id}`);

const audiences = {
  all: { query: () => ({}) },
  everyone: { query: () => ({ everyone: true }) },
  user: { label: "User", query: (name) => ({ user_id: name }) },
  topic: { label: "Topic or pattern", query: (name) => ({ topic: name }) },
};

const gaps = {
  overflow: (n) => `${format.count(n)} ${n === 1 ? "message is" : "messages are"} missing here: this page was too slow for them.`,
  expired: () => "Messages are missing here: the daemon’s log no longer holds them.",
  unknown: () => "Messages may be missing here: the daemon has started anew.",
};

function renderGap({ reason, messages }) {
  const item = document.getElementById("gap-template").content.firstElementChild.cloneNode(true);
  item.querySelector(".text").textContent = gaps[reason]?.(Number(messages)) ?? `Messages are missing here: ${reason}.`;
  return item;
}

function render(message) {
  const item = document.getElementById("message-template").content.firstElementChild.cloneNode(true);
  const part = (name) => item.querySelector(`.${name}`);
  const to = message.userId !== undefined ? `user ${message.userId}` : message.topic !== undefined ? `topic ${message.topic}` : "everybody";
  item.dataset.type = message.event;
  item.classList.toggle("for-one", message.userId !== undefined);
  item.classList.toggle("for-topic", message.topic !== undefined);
  part("badge").textContent = `${message.event} · to ${to}`;
  part("id").textContent = message.id;
  part("recipients").textContent = `${format.streams(message.recipients)} ·`;
  part("text").textContent = message.data.length > longest ? `${message.data.slice(0, longest)}… (${format.count(message.data.length)} characters)` : message.data;
  const time = item.querySelector("time");
  time.dateTime = message.time;
  time.textContent = format.clock(new Date(message.time));
  return item;
}

export class Tail {
  #control;
  #abort = null; // while it follows
  #newest = new Newest({ list: element("list"), empty: element("empty"), pause: element("pause"), clear: element("clear") });
  #drawn = []; // what waits for the next frame

  constructor(control) {
    this.#control = control;
    element("of").addEventListener("change", () => {
      this.#showAudience();
      if (this.#abort) this.#stop();
    });
    element("form").addEventListener("submit", (submit) => {
      submit.preventDefault();
      if (this.#abort) this.#stop();
      else this.#follow();
    });
    this.#showAudience();
  }

  // of follows a user or a topic.
  of(kind, name) {
    element("of").value = kind;
    element("target").value = name;
    this.#showAudience();
    this.#stop();
    this.#follow();
    document.getElementById("tail").scrollIntoView({ block: "nearest" });
    element("toggle").focus();
  }

  #showAudience() {
    const { label } = audiences[element("of").value];
    element("target").hidden = !label;
    element("target-label").textContent = label ?? "Whose";
    element("target").placeholder = label ?? "";
  }

  #stop() {
    this.#abort?.abort();
    this.#abort = null;
    element("toggle").textContent = "Follow";
    element("state").textContent = "";
    element("state").classList.remove("live");
  }

  async #follow() {
    const name = element("target").value;
    const { label, query } = audiences[element("of").value];
    element("problem").textContent = "";
    if (label && name === "") {
      element("problem").textContent = `${label} is empty`;
      element("target").focus();
      return;
    }
    const abort = new AbortController();
    this.#abort = abort;
    element("toggle").textContent = "Stop";
    element("state").textContent = "…";
    let position = "";
    while (!abort.signal.aborted) {
      try {
        await this.#control.lines("/v1/tail", { ...query(name), ...(position && { last_event_id: position }) }, (told) => {
          position = told.position ?? told.message?.id ?? position;
          element("state").textContent = "following";
          element("state").classList.add("live");
          if (told.message) this.#draw(render(told.message));
          if (told.gap) this.#draw(renderGap(told.gap));
        }, abort.signal);
      } catch (error) {
        if (abort.signal.aborted) return;
        if (error instanceof Refusal && error.reason !== "STOPPING" && error.reason !== "RATE_LIMIT") {
          element("problem").textContent = error.message;
          this.#stop();
          return;
        }
      }
      if (abort.signal.aborted) return;
      element("state").textContent = "cut off; trying again";
      element("state").classList.remove("live");
      await new Promise((resolve) => setTimeout(resolve, patience));
    }
  }

  // draw shows items once a frame, however many come.
  #draw(item) {
    if (this.#drawn.push(item) > 1) return;
    const show = () => this.#newest.add(...this.#drawn.splice(0));
    if (document.hidden) setTimeout(show, 100);
    else requestAnimationFrame(show);
  }
}
