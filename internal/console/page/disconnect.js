// The dialog that asks before it ends a user's streams.

import * as format from "/console/format.js";

const element = (id) => document.getElementById(`disconnect-${id}`);

export class Disconnect {
  #control;
  #dialog = element("dialog");
  #user = "";
  #done;

  // done is called with a sentence when streams were ended.
  constructor(control, done) {
    this.#control = control;
    this.#done = done;
    element("no").addEventListener("click", () => this.#dialog.close());
    element("form").addEventListener("submit", (submit) => {
      submit.preventDefault();
      this.#disconnect();
    });
  }

  ask(user) {
    this.#user = user;
    element("user").textContent = user;
    element("what").textContent = "All streams of this user end. A browser comes back by itself, unless it is told to stay away.";
    element("problem").textContent = "";
    element("for").value = "";
    this.#dialog.showModal();
    element("no").focus();
  }

  async #disconnect() {
    const stayAway = element("for").value;
    element("problem").textContent = "";
    try {
      const { connections } = await this.#control.post(`/v1/users/${encodeURIComponent(this.#user)}:disconnect`, stayAway ? { for: stayAway } : {});
      this.#dialog.close();
      this.#done(`${format.streams(connections)} of ${this.#user} ended.`);
    } catch (error) {
      element("problem").textContent = error.message;
    }
  }
}
