// A list with the newest items first, which can be paused and cleared.

// most is the number of items that the list keeps.
export const most = 200;

export class Newest {
  #list;
  #empty;
  #pause;
  #waiting = []; // while paused, oldest first

  // empty is displayed while the list has no items. pause and clear are buttons.
  constructor({ list, empty, pause, clear }) {
    this.#list = list;
    this.#empty = empty;
    this.#pause = pause;
    pause.addEventListener("click", () => {
      pause.ariaPressed = String(!this.paused);
      if (!this.paused) this.#show(this.#waiting.splice(0));
      this.#showWaiting();
    });
    clear.addEventListener("click", () => this.clear());
  }

  get paused() {
    return this.#pause.ariaPressed === "true";
  }

  clear() {
    this.#waiting = [];
    this.#list.replaceChildren();
    this.#empty.hidden = false;
    this.#showWaiting();
  }

  // add adds items, given oldest first.
  add(...items) {
    if (!this.paused) {
      this.#show(items);
      return;
    }
    this.#waiting = [...this.#waiting, ...items].slice(-most);
    this.#showWaiting();
  }

  #show(items) {
    this.#list.prepend(...items.slice(-most).reverse());
    while (this.#list.children.length > most) this.#list.lastElementChild.remove();
    this.#empty.hidden = this.#list.children.length > 0;
  }

  #showWaiting() {
    const n = this.#waiting.length;
    this.#pause.textContent = this.paused ? (n ? `Resume (${n} new)` : "Resume") : "Pause";
  }
}
