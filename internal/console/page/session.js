// Who calls: the control token, and what it lets the page do.

import { Refusal } from "/console/control.js";

const element = (id) => document.getElementById(`token-${id}`);

const needs = {
  publish: "Publishing needs a token with the scope publish.",
  read: "To see this needs a token with the scope read.",
  admin: "This needs a token with the scope admin.",
};

// Session dispatches "change" when what the page may do has changed.
export class Session extends EventTarget {
  name = "";
  scopes = null; // null until the daemon has said
  #control;
  #dialog = element("dialog");
  #input = document.getElementById("token");
  #dismissed = false; // the dialog, without a token: it doesn't come back by itself

  constructor(control) {
    super();
    this.#control = control;
    control.addEventListener("unauthorized", ({ detail }) => this.#ask(control.token ? detail.message : ""));
    element("button").addEventListener("click", () => this.#open(""));
    element("close").addEventListener("click", () => {
      this.#dismissed = true;
      this.#dialog.close();
    });
    // The Escape key.
    this.#dialog.addEventListener("cancel", () => (this.#dismissed = true));
    element("forget").addEventListener("click", () => {
      control.token = "";
      this.#dialog.close();
      this.#dismissed = false;
      this.learn();
    });
    element("form").addEventListener("submit", (submit) => {
      submit.preventDefault();
      const token = this.#input.value.trim();
      if (token === "") {
        element("problem").textContent = "Token is empty";
        return;
      }
      control.token = token;
      this.#dismissed = false;
      this.learn();
    });
  }

  may(scope) {
    return this.scopes?.includes(scope) ?? false;
  }

  // learn asks the daemon who calls. It is not told again until the token
  // changes; the figures say when the daemon is out of reach.
  async learn() {
    try {
      const { name, scopes } = await this.#control.get("/v1/whoami");
      this.name = name;
      this.scopes = scopes;
      if (this.#control.token) this.#dialog.close();
    } catch (error) {
      if (!(error instanceof Refusal)) return;
      this.name = "";
      this.scopes = [];
    }
    this.#show();
    this.dispatchEvent(new Event("change"));
  }

  #show() {
    const button = element("button");
    button.hidden = this.name === "" && !this.#control.token && this.scopes.length > 0;
    button.textContent = this.name ? `Token: ${this.name}` : "Token…";
    element("scopes").textContent = this.name ? `The token “${this.name}” is good for ${this.scopes.join(", ")}.` : "";
    element("forget").hidden = !this.#control.token;
    for (const section of document.querySelectorAll("[data-needs]")) {
      const denied = !this.may(section.dataset.needs);
      const notice = section.querySelector(".denied");
      notice.hidden = !denied;
      notice.textContent = denied ? needs[section.dataset.needs] : "";
      section.classList.toggle("is-denied", denied);
      for (const control of section.querySelectorAll("button, input, select, textarea")) {
        if (!control.classList.contains("previous") && !control.classList.contains("next")) control.disabled = denied;
      }
    }
    document.body.classList.toggle("may-not-admin", !this.may("admin"));
    document.body.classList.toggle("may-not-publish", !this.may("publish"));
  }

  #ask(problem) {
    element("button").hidden = false;
    if (!this.#dialog.open && !this.#dismissed) this.#open(problem);
    else if (problem) element("problem").textContent = problem;
  }

  #open(problem) {
    element("problem").textContent = problem;
    this.#input.value = "";
    this.#dialog.showModal();
    this.#input.focus();
  }
}
