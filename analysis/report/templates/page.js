// Shared helpers, theme, contents, copying. The page's scripts are joined into one module, in the order of page.py.
const one = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const once = (make) => {
  let made = false;
  let value;
  return () => {
    if (!made) [made, value] = [true, make()];
    return value;
  };
};
async function unpacked(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (character) => character.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

// The data are unpacked when first asked for, so that they do not hold up the page.
let report = null;
let parts = null;
const ready = once(async () => {
  report = JSON.parse(await unpacked("report-data"));
  const entries = report.sections.flatMap((s) => (s.parts ?? []).map((part) => [`${s.key}/${part.key}`, part]));
  parts = new Map(entries);
});

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

// Theme: the system's, until the reader chooses; the choice is remembered.
const themeButton = one(".theme");

function setTheme(theme, remember) {
  document.documentElement.dataset.theme = theme;
  themeButton.setAttribute("aria-pressed", String(theme === "dark"));
  if (!remember) return;
  try {
    localStorage.setItem("rhodb-theme", theme);
  } catch {
    // A file opened from disk may have no storage; the choice then holds for this view.
  }
}

setTheme(document.documentElement.dataset.theme, false);
themeButton.addEventListener("click", () => {
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark", true);
});

// Contents: which section is being read; on small screens behind a button.
const contents = one("#contents");
const contentsButton = one(".contents-button");
const links = new Map(all("a", contents).map((link) => [link.hash.slice(1), link]));

function openContents(open) {
  contents.classList.toggle("open", open);
  contentsButton.setAttribute("aria-expanded", String(open));
}

contentsButton.addEventListener("click", () => openContents(!contents.classList.contains("open")));
contents.addEventListener("click", (event) => event.target.closest("a") && openContents(false));
const inView = new Set();
const reading = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) inView[entry.isIntersecting ? "add" : "delete"](entry.target.id);
    const current = [...links.keys()].find((key) => inView.has(key));
    if (!current) return;
    for (const [key, link] of links) {
      if (key === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  },
  { rootMargin: "-15% 0px -60% 0px" },
);
all("main > section").forEach((section) => reading.observe(section));
// What is fixed below the bar has to know its height.
new ResizeObserver(([entry]) => {
  const height = entry.borderBoxSize[0].blockSize;
  document.documentElement.style.setProperty("--bar", `${height}px`);
}).observe(one(".bar"));

function copyButton(text, label) {
  const button = element("button", { type: "button", className: "copy" }, label);
  button.addEventListener("click", async () => {
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without the clipboard's permission (a file, an old browser): by selection.
      const area = element("textarea", { value: text });
      document.body.append(area);
      area.select();
      done = document.execCommand("copy");
      area.remove();
      button.focus();
    }
    button.textContent = done ? "Copied" : "Could not copy";
    setTimeout(() => (button.textContent = label), 1500);
  });
  return button;
}

for (const block of all(".commands pre")) block.after(copyButton(block.textContent, "Copy commands"));
