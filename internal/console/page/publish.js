// The form that publishes.

import * as format from "/console/format.js";
import { audiences } from "/console/audiences.js";
import { Rejection } from "/console/control.js";

const element = (id) => document.getElementById(`publish-${id}`);

// furtherTopics returns the topics in the lines of their field, which may contain any
// character but line breaks, and the numbers of the lines. Empty lines don't count.
const furtherTopics = () =>
  element("topics")
    .value.split("\n")
    .map((name, i) => ({ name, line: i + 1 }))
    .filter(({ name }) => name !== "");

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
    // As in chat editors: Enter starts a new line, Ctrl+Enter sends.
    for (const name of ["data", "topics"]) {
      element(name).addEventListener("keydown", (key) => {
        if (key.key === "Enter" && (key.ctrlKey || key.metaKey)) this.#form.requestSubmit();
      });
    }
    this.#showAudience();
  }

  // to prepares the form for a user or a topic alone.
  to(kind, name) {
    this.#form.elements.to.value = kind;
    element("target").value = name;
    element("topics").value = "";
    element("exclude").value = "";
    this.#showAudience();
    element("form").scrollIntoView({ block: "nearest" });
    element("data").focus();
  }

  get #audience() {
    return audiences[this.#form.elements.to.value];
  }

  get #isTopic() {
    return this.#form.elements.to.value === "topic";
  }

  get #isUser() {
    return this.#form.elements.to.value === "user";
  }

  // Only topics can be combined, and only they end. No user is excluded from the
  // messages to one user.
  #message(furtherTopics) {
    return {
      data: element("data").value,
      event: element("event").value,
      conflate_key: element("key").value,
      retain: element("retain").checked,
      ...(this.#isTopic && { final: element("final").checked, topics: furtherTopics.map(({ name }) => name) }),
      ...(!this.#isUser && { exclude_user_id: element("exclude").value }),
    };
  }

  #showAudience() {
    const { label, type } = this.#audience;
    element("target-field").hidden = !label;
    element("target-label").textContent = label ?? "";
    element("event").placeholder = type;
    element("topics-field").hidden = !this.#isTopic;
    element("exclude-field").hidden = this.#isUser;
    element("final-field").hidden = !this.#isTopic;
  }

  async #publish() {
    const { messages: path, field, label } = this.#audience;
    const name = element("target").value;
    const topics = furtherTopics();
    element("result").textContent = "";
    this.#showProblems({});
    if (field && name === "") {
      this.#showProblems({ [field]: `Enter a ${label.toLowerCase()}` });
      return;
    }
    const button = this.#form.querySelector("[type=submit]");
    button.ariaDisabled = "true";
    try {
      const { id, recipients } = await this.#control.post(path(name), this.#message(topics));
      element("result").textContent = `Sent to ${format.streams(recipients)} as ${id}`;
    } catch (error) {
      if (error instanceof Rejection && Object.keys(error.fields).length > 0) this.#showProblems(error.fields, topics);
      else element("problem").textContent = error.message;
    } finally {
      button.ariaDisabled = null;
    }
  }

  // showProblems displays each field's problem below the field. It names further topics
  // by their lines.
  #showProblems(fields, topics = []) {
    const inputs = { data: "data", event: "event", conflate_key: "key", topics: "topics", exclude_user_id: "exclude", [this.#audience.field]: "target" };
    element("problem").textContent = "";
    for (const input of ["data", "event", "key", "topics", "exclude", "target"]) {
      element(input).ariaInvalid = null;
      element(`${input}-problem`).textContent = "";
    }
    let first = null;
    for (const [field, description] of Object.entries(fields)) {
      const [, list, index] = /^(\w+)\[(\d+)\]$/.exec(field) ?? [];
      const input = inputs[list ?? field];
      if (!input) {
        element("problem").textContent = description;
        continue;
      }
      element(input).ariaInvalid = "true";
      element(`${input}-problem`).textContent = list ? description.replace(field, `line ${topics[index].line}`) : description;
      first ??= element(input);
    }
    first?.focus();
  }
}
