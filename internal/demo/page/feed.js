// The list of events, newest first.

import { Newest } from "/demo/newest.js";

// plain returns a JSON value as readable text.
const plain = (value) => (typeof value === "string" ? value : value === undefined || value === null ? "" : JSON.stringify(value));

// readable returns the title, text, detail and topic of JSON that has a title.
// Any other data becomes the text.
function readable(data) {
  try {
    const { title, text, detail, topic } = JSON.parse(data);
    if (typeof title === "string") return { title, text: plain(text), detail: plain(detail), topic: plain(topic) };
  } catch {
    // not JSON
  }
  return { title: "", text: data, detail: "", topic: "" };
}

// label names an event's type, and its audience if that isn't everyone.
function label({ type, audience }, topic, user) {
  if (audience === "individual" && user) return `${type} · for ${user}`;
  return topic ? `${type} · ${topic}` : type;
}

function render(template, event, user) {
  const item = template.content.firstElementChild.cloneNode(true);
  const part = (name) => item.querySelector("." + name);
  const { title, text, detail, topic } = readable(event.data);
  item.dataset.type = event.type;
  item.classList.toggle("for-one", event.audience === "individual");
  item.classList.toggle("for-topic", event.audience === "topic");
  part("badge").textContent = label(event, topic, user);
  part("id").textContent = event.id;
  part("title").textContent = title;
  part("detail").textContent = detail;
  part("text").textContent = text;
  part("data").textContent = event.data;
  const time = item.querySelector("time");
  time.dateTime = event.at.toISOString();
  time.textContent = event.at.toLocaleTimeString();
  return item;
}

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

  add(event, user) {
    this.#newest.add(render(this.#template, event, user));
    // There are too many other events for a screen reader.
    if (event.audience === "individual" && !this.#newest.paused) {
      const { title, text } = readable(event.data);
      this.#announce.textContent = `For you: ${title} ${text}`;
    }
  }
}
