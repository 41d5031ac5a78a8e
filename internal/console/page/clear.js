// The dialog that asks for confirmation before it clears retained values.

const element = (id) => document.getElementById(`clear-${id}`);

export class Clear {
  #control;
  #dialog = element("dialog");
  #request; // of the current question: path, query and done

  constructor(control) {
    this.#control = control;
    element("no").addEventListener("click", () => this.#dialog.close());
    element("form").addEventListener("submit", (submit) => {
      submit.preventDefault();
      this.#clear();
    });
  }

  // ask clears the values that path and query select, which what describes, if the
  // operator agrees. done is called with the number of values.
  ask(what, path, query, done) {
    this.#request = { path, query, done };
    element("what").textContent = what;
    element("problem").textContent = "";
    this.#dialog.showModal();
    element("no").focus();
  }

  async #clear() {
    const { path, query, done } = this.#request;
    element("problem").textContent = "";
    try {
      const { cleared } = await this.#control.delete(path, query);
      this.#dialog.close();
      done(cleared);
    } catch (error) {
      element("problem").textContent = error.message;
    }
  }
}
