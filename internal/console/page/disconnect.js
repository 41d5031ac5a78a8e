// The dialog that asks for confirmation before it disconnects a user.

import * as format from "/console/format.js";

const element = (id) => document.getElementById(`disconnect-${id}`);

export class Disconnect {
  #control;
  #dialog = element("dialog");
  #user = "";
  #done;

  // done is called with a message for the operator after a user was disconnected.
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
    element("problem").textContent = "";
    element("for").value = "";
    this.#dialog.showModal();
    element("no").focus();
  }

  async #disconnect() {
    const ban = element("for").value;
    element("problem").textContent = "";
    try {
      const { connections } = await this.#control.post(`/v1/users/${encodeURIComponent(this.#user)}:disconnect`, ban ? { for: ban } : {});
      this.#dialog.close();
      this.#done(`Closed ${format.streams(connections)} of ${this.#user}.`);
    } catch (error) {
      element("problem").textContent = error.message;
    }
  }
}
