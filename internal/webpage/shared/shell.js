// Shell commands to read and copy.

export const inShell = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

async function copy(code, button) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    // The clipboard is available only on secure origins.
    getSelection().selectAllChildren(code);
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

// showCommands fills a list with commands, given as pairs of a description and a
// command line.
export function showCommands(list, commands) {
  const template = document.getElementById("command-template");
  list.replaceChildren(
    ...commands.map(([what, line]) => {
      const item = template.content.firstElementChild.cloneNode(true);
      const code = item.querySelector("code");
      const button = item.querySelector("button");
      item.querySelector(".what").textContent = what;
      item.querySelector("pre").ariaLabel = what;
      code.textContent = line;
      button.ariaLabel = `Copy the command: ${what}`;
      button.addEventListener("click", () => copy(code, button));
      return item;
    }),
  );
}
