// The form that publishes to the visitor, to everyone or to a topic.

const element = (id) => document.getElementById("publish-" + id);

export class Publisher {
  #user = "";
  #form = element("form");

  // A daemon that requires a control token doesn't let this page publish.
  constructor(denied) {
    element("denied").hidden = !denied;
    this.#form.hidden = denied;
    this.#form.addEventListener("change", () => this.#showAudience());
    this.#form.addEventListener("submit", (submit) => {
      submit.preventDefault();
      this.#publish();
    });
    this.#showAudience();
  }

  // The visitor's name, or "" for an anonymous visitor.
  set user(user) {
    this.#user = user;
    const me = this.#form.querySelector("[value=user]");
    me.disabled = user === "";
    if (me.disabled && me.checked) this.#form.elements.to.value = "everyone";
    this.#showAudience();
  }

  get #audience() {
    return this.#form.elements.to.value;
  }

  #showAudience() {
    element("topic-field").hidden = this.#audience !== "topic";
    element("topic").required = this.#audience === "topic";
  }

  async #publish() {
    const message = { data: element("data").value };
    if (this.#audience === "user") message.user = this.#user;
    if (this.#audience === "topic") message.topic = element("topic").value;
    element("result").textContent = "";
    element("problem").textContent = "";
    try {
      const reply = await fetch("/demo/publish", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(message),
      });
      if (!reply.ok) throw new Error((await reply.text()).trim());
      const { recipients } = await reply.json();
      element("result").textContent = `Sent to ${recipients} ${recipients === 1 ? "stream" : "streams"}`;
    } catch (error) {
      element("problem").textContent = error instanceof TypeError ? "The daemon doesn’t respond." : error.message;
    }
  }
}
