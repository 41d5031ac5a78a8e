// The control token, and what it permits on this page.

import { Rejection } from "/console/control.js";

const element = (id) => document.getElementById(`token-${id}`);

const requirements = {
  publish: "Publishing requires a token with the scope publish.",
  read: "Reading requires a token with the scope read.",
  admin: "The tail requires a token with the scope admin.",
};

// Session dispatches "change" when the permissions may have changed.
export class Session extends EventTarget {
  name = "";
  scopes = null; // null until the daemon has replied
  #control;
  #dialog = element("dialog");
  #input = document.getElementById("token");
  #declined = false; // closed without a token: don't reopen automatically

  constructor(control) {
    super();
    this.#control = control;
    control.addEventListener("unauthorized", ({ detail }) => this.#ask(control.token ? detail.message : ""));
    element("button").addEventListener("click", () => this.#open(""));
    element("close").addEventListener("click", () => {
      this.#declined = true;
      this.#dialog.close();
    });
    // The Escape key.
    this.#dialog.addEventListener("cancel", () => (this.#declined = true));
    element("forget").addEventListener("click", () => {
      control.token = "";
      this.#dialog.close();
      this.#declined = false;
      this.load();
    });
    element("form").addEventListener("submit", (submit) => {
      submit.preventDefault();
      const token = this.#input.value.trim();
      if (token === "") {
        element("problem").textContent = "Enter a token";
        return;
      }
      control.token = token;
      this.#declined = false;
      this.load();
    });
  }

  may(scope) {
    return this.scopes?.includes(scope) ?? false;
  }

  // load requests the caller's name and scopes, which stay the same until the
  // token changes. It ignores an unreachable daemon, which the stats report.
  async load() {
    try {
      const { name, scopes } = await this.#control.get("/v1/whoami");
      this.name = name;
      this.scopes = scopes;
      if (this.#control.token) this.#dialog.close();
    } catch (error) {
      if (!(error instanceof Rejection)) return;
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
    element("scopes").textContent = this.name ? `The current token is “${this.name}”, with the scopes ${this.scopes.join(", ")}.` : "";
    element("forget").hidden = !this.#control.token;
    for (const section of document.querySelectorAll("[data-needs]")) {
      const denied = !this.may(section.dataset.needs);
      const notice = section.querySelector(".denied");
      notice.hidden = !denied;
      notice.textContent = denied ? requirements[section.dataset.needs] : "";
      section.classList.toggle("is-denied", denied);
      for (const control of section.querySelectorAll("button, input, select, textarea")) {
        if (!control.classList.contains("previous") && !control.classList.contains("next")) control.disabled = denied;
      }
    }
    document.body.classList.toggle("may-not-admin", !this.may("admin"));
    document.body.classList.toggle("may-not-publish", !this.may("publish"));
    document.body.classList.toggle("may-not-data", !this.may("data"));
  }

  #ask(problem) {
    element("button").hidden = false;
    if (!this.#dialog.open && !this.#declined) this.#open(problem);
    else if (problem) element("problem").textContent = problem;
  }

  #open(problem) {
    element("problem").textContent = problem;
    this.#input.value = "";
    this.#dialog.showModal();
    this.#input.focus();
  }
}
