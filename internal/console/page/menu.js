// The menu of a row's actions, for cards that are too narrow for their buttons.

const gap = 4; // pixels between the opener and the menu

export class Menu {
  #popover;
  #opener = null;
  #key = "";

  // act receives an action and the key of its row.
  constructor(popover, act) {
    this.#popover = popover;
    popover.addEventListener("toggle", ({ newState }) => this.#toggled(newState === "open"));
    popover.addEventListener("keydown", (event) => this.#press(event));
    popover.addEventListener("click", ({ target }) => {
      const chosen = target.closest("button")?.dataset.act;
      if (!chosen) return;
      popover.hidePopover();
      this.#opener.focus();
      act(chosen, this.#key);
    });
  }

  // attach makes a row's button open the menu.
  attach(opener) {
    opener.popoverTargetElement = this.#popover;
  }

  // fill prepares the menu for a row, before the click on its button opens it.
  fill(opener, row) {
    this.#opener = opener;
    this.#key = row.dataset.key;
    this.#popover.ariaLabel = opener.ariaLabel;
    const actions = [...row.querySelectorAll("[data-act]")].filter((button) => !button.hidden);
    this.#popover.replaceChildren(
      ...actions.map((button) => {
        const item = button.cloneNode(true);
        item.role = "menuitem";
        return item;
      }),
    );
    // The menu scrolls with the page, and its right edge is aligned with its
    // opener's.
    const { bottom, right } = opener.getBoundingClientRect();
    this.#popover.style.top = `${bottom + scrollY + gap}px`;
    this.#popover.style.right = `${document.documentElement.clientWidth - right}px`;
  }

  #toggled(open) {
    if (this.#opener) this.#opener.ariaExpanded = String(open);
    if (open) this.#items[0]?.focus();
    else if (document.activeElement === document.body) this.#opener?.focus();
  }

  get #items() {
    return [...this.#popover.children].filter((item) => item.checkVisibility());
  }

  #press(event) {
    const items = this.#items;
    const at = items.indexOf(document.activeElement);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
    if (event.key === "Tab") {
      this.#popover.hidePopover();
      this.#opener.focus();
    } else if (next !== undefined) {
      event.preventDefault();
      items.at(next % items.length).focus();
    }
  }
}
