"use strict";
const cases = [...document.querySelectorAll("section.case")];
const names = { category: "Category", model: "Model", judge: "Judge", only: "Only" };
const only = { differ: "judges disagree", flips: "the order flips the verdict", missing: "no verdict" };
const bar = document.createElement("div");
bar.className = "filters";
const statusLine = document.createElement("p");
statusLine.className = "soft";
statusLine.setAttribute("role", "status");
const values = (section, name) => section.dataset[name].split("\n").filter(Boolean);
const chosen = {};
const labelled = (name, control) => {
  const label = document.createElement("label");
  label.append(name, control);
  bar.append(label);
  return control;
};
for (const [name, shown] of Object.entries(names)) {
  const select = labelled(shown, document.createElement("select"));
  select.append(new Option("all", ""));
  const present = new Set(cases.flatMap(section => values(section, name)));
  for (const value of [...present].sort()) select.append(new Option(only[value] && name === "only" ? only[value] : value, value));
  chosen[name] = select;
  select.addEventListener("change", show);
}
const search = labelled("Search ( / )", document.createElement("input"));
search.type = "search";
search.addEventListener("input", show);
let texts = null;
function show() {
  const words = search.value.toLowerCase();
  if (words && !texts) texts = cases.map(section => section.textContent.toLowerCase());
  let count = 0;
  cases.forEach((section, at) => {
    const fits = Object.entries(chosen).every(([name, select]) => !select.value || values(section, name).includes(select.value));
    section.hidden = !(fits && (!words || texts[at].includes(words)));
    if (!section.hidden) count += 1;
  });
  statusLine.textContent = `${count} of ${cases.length} cases`;
}
(document.querySelector("#judgments") || document.querySelector("h1")).after(bar, statusLine);
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT)$/.test(event.target.tagName)) return;
  const shown = cases.filter(section => !section.hidden);
  const below = shown.findIndex(section => section.getBoundingClientRect().top > 1);
  if (event.key === "/") search.focus();
  else if (event.key === "j") shown[below < 0 ? shown.length - 1 : below]?.scrollIntoView();
  else if (event.key === "k") shown[Math.max(0, (below < 0 ? shown.length : below) - 2)]?.scrollIntoView();
  else return;
  event.preventDefault();
});
show();
