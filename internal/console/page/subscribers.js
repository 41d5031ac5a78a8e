// The dialog with the users whose streams subscribe to a topic or pattern.

import * as format from "/console/format.js";
import { audiences } from "/console/audiences.js";
import { List } from "/console/list.js";

const element = (id) => document.getElementById(`subscribers-${id}`);

export class Subscribers {
  #dialog = element("dialog");
  #list;
  #topic = "";

  constructor(control) {
    this.#list = new List(control, this.#dialog, document.getElementById("subscriber-template"), {
      path: () => audiences.topic.subscribers(this.#topic),
      rows: "users",
      key: ({ userId }) => userId,
      fill: (row, { connections }) => (row.querySelector(".number").textContent = format.count(connections)),
      replied: (reply) => this.#showOthers(reply),
      none: "No user subscribes to it.",
    });
    element("close").addEventListener("click", () => this.#dialog.close());
    this.#dialog.addEventListener("close", () => {
      // The browser fires the event later, when the dialog may be open again.
      if (!this.#dialog.open) this.#list.stop();
    });
  }

  // of shows the subscribers of a topic, and updates them until the dialog is closed.
  of(topic) {
    this.#topic = topic;
    element("title").textContent = `Subscribers of ${topic}`;
    element("others").textContent = "";
    this.#dialog.showModal();
    element("close").focus();
    this.#list.restart();
  }

  // refresh requests the subscribers again if the dialog is open.
  refresh() {
    if (this.#dialog.open) this.#list.refresh();
  }

  // showOthers displays what the table lacks: anonymous streams, and nodes that
  // haven't replied.
  #showOthers({ anonymousConnections, missingNodes }) {
    const others = [];
    if (anonymousConnections > 0) others.push(`${format.streams(anonymousConnections)} without a user`);
    if (missingNodes.length > 0) others.push(`no reply from ${missingNodes.join(", ")}`);
    const text = others.join(" · ");
    // Screen readers read it again at each change.
    if (element("others").textContent !== text) element("others").textContent = text;
  }
}
