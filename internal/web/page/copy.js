// Adds a button to every command, which copies it. The page does without.
for (const figure of document.querySelectorAll("figure.command")) {
  const code = figure.querySelector("code");
  const label = figure.querySelector("figcaption").textContent;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.setAttribute("aria-label", "Copy: " + label);
  button.addEventListener("click", async () => {
    const copied = await copy(code);
    button.textContent = copied ? "Copied" : "Selected";
    document.getElementById("said").textContent = copied ? label + ": copied" : label + ": selected, to be copied by hand";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  figure.append(button);
}

// copy tells whether it could. navigator.clipboard is there only over HTTPS and on
// the host itself; elsewhere a selection has to do.
async function copy(element) {
  const text = element.textContent.replace(/\n$/, "");
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch { /* not allowed: as without */ }
  }
  getSelection().selectAllChildren(element);
  return document.execCommand("copy");
}
