// The list of events, newest first.

import { Newest } from "/demo/newest.js";

// plain returns a JSON value as readable text.
const plain = (value) => (typeof value === "string" ? value : value === undefined || value === null ? "" : JSON.stringify(value));

// readable returns the title, text and detail of JSON that has a title. Any other
// data becomes the text.
function readable(data) {
  try {
    const { title, text, detail } = JSON.parse(data);
    if (typeof title === "string") return { title, text: plain(text), detail: plain(detail) };
  } catch {
    // not JSON
  }
  return { title: "", text: data, detail: "" };
}

// label names an event's type, and its audience if that isn't everyone.
function label({ type, topic }, audience, user) {
  if (audience === "user" && user) return `${type} · for ${user}`;
  return topic ? `${type} · ${topic}` : type;
}

const resets = {
  expired: "The daemon’s history no longer holds all events since the last one.",
  unknown: "The daemon was restarted, and its history is another one.",
  overflow: "This page read too slowly.",
};

export class Feed {
  #list = document.getElementById("events");
  #announce = document.getElementById("announce");
  #template = document.getElementById("event-template");
  #newest = new Newest({
    list: this.#list,
    empty: document.getElementById("empty"),
    pause: document.getElementById("pause"),
    clear: document.getElementById("clear"),
  });

  constructor() {
    const raw = document.getElementById("raw");
    raw.addEventListener("click", () => {
      raw.ariaPressed = String(this.#list.classList.toggle("raw"));
    });
  }

  add(event, audience, user) {
    const item = this.#render(event, event.time ?? new Date());
    item.classList.toggle("for-one", audience === "user");
    item.classList.toggle("for-topic", audience === "topic");
    item.querySelector(".badge").textContent = label(event, audience, user);
    this.#newest.add(item);
    // There are too many other events for a screen reader.
    if (audience === "user" && !this.#newest.paused) {
      const { title, text } = readable(event.data);
      this.#announce.textContent = `For you: ${title} ${text}`;
    }
  }

  // addReset shows that events are missing.
  addReset({ reason, lastEventId }) {
    const data = JSON.stringify({ title: "Events are missing", text: resets[reason] ?? reason });
    const item = this.#render({ type: "peald.reset", id: lastEventId, data }, new Date());
    item.querySelector(".badge").textContent = "peald.reset";
    this.#newest.add(item);
  }

  #render({ type, id, data }, at) {
    const item = this.#template.content.firstElementChild.cloneNode(true);
    const part = (name) => item.querySelector("." + name);
    const { title, text, detail } = readable(data);
    item.dataset.type = type;
    part("id").textContent = id;
    part("title").textContent = title;
    part("detail").textContent = detail;
    part("text").textContent = text;
    part("data").textContent = data;
    const time = item.querySelector("time");
    time.dateTime = at.toISOString();
    time.textContent = at.toLocaleTimeString();
    return item;
  }
}
