// The list of events, newest first.

const most = 200;

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
  #empty = document.getElementById("empty");
  #announce = document.getElementById("announce");
  #pause = document.getElementById("pause");
  #template = document.getElementById("event-template");
  #waiting = []; // while paused, oldest first

  constructor() {
    const raw = document.getElementById("raw");
    raw.addEventListener("click", () => {
      raw.ariaPressed = String(this.#list.classList.toggle("raw"));
    });
    this.#pause.addEventListener("click", () => {
      this.#pause.ariaPressed = String(!this.#paused);
      if (!this.#paused) this.#show(this.#waiting.splice(0));
      this.#showWaiting();
    });
    document.getElementById("clear").addEventListener("click", () => {
      this.#waiting = [];
      this.#list.replaceChildren();
      this.#empty.hidden = false;
      this.#showWaiting();
    });
  }

  get #paused() {
    return this.#pause.ariaPressed === "true";
  }

  add(event, user) {
    const item = render(this.#template, event, user);
    if (this.#paused) {
      this.#waiting = [...this.#waiting, item].slice(-most);
      this.#showWaiting();
      return;
    }
    this.#show([item]);
    // Broadcasts are too many to be read out.
    if (event.forOne) {
      const { title, text } = readable(event.data);
      this.#announce.textContent = `For you: ${title} ${text}`;
    }
  }

  #show(items) {
    this.#list.prepend(...items.reverse());
    while (this.#list.children.length > most) this.#list.lastElementChild.remove();
    this.#empty.hidden = this.#list.children.length > 0;
  }

  #showWaiting() {
    const n = this.#waiting.length;
    this.#pause.textContent = this.#paused ? (n ? `Resume (${n} new)` : "Resume") : "Pause";
  }
}
