// The form that publishes.

import * as format from "/console/format.js";
import { Refusal } from "/console/control.js";

const element = (id) => document.getElementById(`publish-${id}`);

const audiences = {
  everyone: { type: "broadcast", path: () => "/v1/broadcast" },
  user: { label: "User", type: "individual", field: "user_id", path: (name) => `/v1/users/${encodeURIComponent(name)}/messages` },
  topic: { label: "Topic", type: "topic", field: "topic", path: (name) => `/v1/topics/${encodeURIComponent(name)}/messages` },
};

export class Publisher {
  #control;
  #form = element("form");

  constructor(control) {
    this.#control = control;
    this.#form.addEventListener("change", () => this.#showAudience());
    this.#form.addEventListener("submit", (submit) => {
      submit.preventDefault();
      this.#publish();
    });
    // As where people write messages: Enter begins a line, and with Ctrl it sends.
    element("data").addEventListener("keydown", (key) => {
      if (key.key === "Enter" && (key.ctrlKey || key.metaKey)) this.#form.requestSubmit();
    });
    this.#showAudience();
  }

  // to readies the form for a user or a topic.
  to(kind, name) {
    this.#form.elements.to.value = kind;
    element("target").value = name;
    this.#showAudience();
    element("form").scrollIntoView({ block: "nearest" });
    element("data").focus();
  }

  get #audience() {
    return audiences[this.#form.elements.to.value];
  }

  #showAudience() {
    const { label, type } = this.#audience;
    element("target-field").hidden = !label;
    element("target-label").textContent = label ?? "";
    element("event").placeholder = type;
  }

  async #publish() {
    const { path, field, label } = this.#audience;
    const name = element("target").value;
    element("result").textContent = "";
    this.#complain({});
    if (field && name === "") {
      this.#complain({ [field]: `${label} is empty` });
      return;
    }
    const button = this.#form.querySelector("[type=submit]");
    button.ariaDisabled = "true";
    try {
      const { id, recipients } = await this.#control.post(path(name), { data: element("data").value, event: element("event").value });
      element("result").textContent = `Sent to ${format.streams(recipients)} as ${id}`;
    } catch (error) {
      if (error instanceof Refusal && Object.keys(error.fields).length > 0) this.#complain(error.fields);
      else element("problem").textContent = error.message;
    } finally {
      button.ariaDisabled = null;
    }
  }

  // complain says what is wrong with fields, where they are.
  #complain(fields) {
    const places = { data: "data", event: "event", [this.#audience.field]: "target" };
    element("problem").textContent = "";
    for (const place of ["data", "event", "target"]) {
      element(place).ariaInvalid = null;
      element(`${place}-problem`).textContent = "";
    }
    let first = null;
    for (const [field, description] of Object.entries(fields)) {
      const place = places[field];
      if (!place) {
        element("problem").textContent = description;
        continue;
      }
      element(place).ariaInvalid = "true";
      element(`${place}-problem`).textContent = description;
      first ??= element(place);
    }
    first?.focus();
  }
}
