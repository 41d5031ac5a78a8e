// The list of events, newest first.

import { Newest } from "/demo/newest.js";

// plain is a value of JSON as somebody can read it.
const plain = (value) => (typeof value === "string" ? value : value === undefined || value === null ? "" : JSON.stringify(value));

// readable takes title, text and detail from JSON that has them; any other
// data is text.
function readable(data) {
  try {
    const { title, text, detail } = JSON.parse(data);
    if (typeof title === "string") return { title, text: plain(text), detail: plain(detail) };
  } catch {
    // not JSON
  }
  return { title: "", text: data, detail: "" };
}

function render(template, event, user) {
  const item = template.content.firstElementChild.cloneNode(true);
  const part = (name) => item.querySelector("." + name);
  const { title, text, detail } = readable(event.data);
  item.dataset.type = event.type;
  item.classList.toggle("for-one", event.forOne);
  part("badge").textContent = event.forOne && user ? `${event.type} · for ${user}` : event.type;
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
    // Broadcasts are too many to be read out.
    if (event.forOne && !this.#newest.paused) {
      const { title, text } = readable(event.data);
      this.#announce.textContent = `For you: ${title} ${text}`;
    }
  }
}
