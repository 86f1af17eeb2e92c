// Shows a state and reports actions. Every text is set as text; nothing here parses HTML.
const make = (tag, text, how = {}) => {
  const node = document.createElement(tag);
  if (text !== undefined && text !== null) node.textContent = text;
  for (const [name, value] of Object.entries(how)) {
    if (name === "onclick" || name === "onchange" || name === "oninput") node[name] = value;
    else node.setAttribute(name, value);
  }
  return node;
};
// Not <pre>: JupyterLab breaks its lines within words and uses a fixed-width font.
const said = (text, more = {}) => make("div", text, { class: "lmj-said", tabindex: "0", ...more });
const box = (kind, ...inside) => {
  const node = make("div", null, { class: kind });
  node.append(...inside.filter(Boolean));
  return node;
};
const button = (label, act, how = {}) => make("button", label, { type: "button", onclick: act, ...how });
const marked = parts => {
  const node = said();
  for (const [text, verdict] of parts) node.append(verdict ? make("mark", text) : text);
  return node;
};
const typing = target => /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName);

function browse(model, root, send) {
  const names = { category: "Category", model: "Model", other: "Against", judge: "Judge", only: "Only" };
  const options = model.get("state").options;
  const controls = {};
  const bar = box("lmj-bar");
  const filter = () => send({ filters: Object.fromEntries(Object.entries(controls).map(([name, control]) => [name, control.value])) });
  const add = (name, label, control) => {
    const labelled = make("label", label);
    labelled.append(control);
    bar.append(labelled);
    controls[name] = control;
  };
  for (const [name, label] of Object.entries(names)) {
    if (!options[name].length) continue;
    const select = make("select", null, { onchange: filter, name });
    select.append(new Option("all", ""));
    options[name].forEach((value, at) => select.append(new Option(name === "only" ? options.labels[at] : value, value)));
    add(name, label, select);
  }
  let waiting;
  const search = make("input", null, { type: "search", name: "search", placeholder: "text or key ( / )", oninput: () => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, 200);
  } });
  add("search", "Search", search);
  const back = button("← previous (k)", () => go(-1));
  const on = button("next (j) →", () => go(1));
  const list = make("select", null, { "aria-label": "Case", onchange: () => send({ go: Number(list.value) }) });
  const position = make("span", null, { class: "lmj-soft", role: "status" });
  const error = make("div", null, { class: "lmj-error", role: "alert" });
  const content = make("div");
  root.append(bar, box("lmj-bar", back, on, list, position), error, content);
  const go = step => send({ go: model.get("state").at + step });

  const show = () => {
    const state = model.get("state");
    for (const [name, control] of Object.entries(controls)) if (control !== document.activeElement || control.tagName === "SELECT") control.value = state.filters[name];
    position.textContent = `${state.rows} of ${state.of} judgments; case ${state.cases ? state.at + 1 : 0} of ${state.cases}`;
    list.replaceChildren(...state.labels.map((label, at) => new Option(label, state.start + at, false, state.start + at === state.at)));
    back.disabled = state.at <= 0;
    on.disabled = state.at >= state.cases - 1;
    error.textContent = state.error;
    content.replaceChildren();
    const shown = state.case;
    if (!shown) return content.append(make("p", "No judgment matches the filters."));
    content.append(make("h3", shown.label), ...shown.question.map(turn => said(turn)));
    if (shown.reference.length) {
      const more = make("details");
      more.append(make("summary", "Reference answer"), ...shown.reference.map(turn => said(turn)));
      content.append(more);
    }
    content.append(box("lmj-sides", ...shown.answers.map(answer =>
      box("lmj-answer", make("h4", answer.model), ...answer.turns.map(turn => said(turn))))));
    content.append(...shown.judgments.map(judgment => box("lmj-judgment",
      make("h4", `${judgment.judge}: ${judgment.verdict}`), make("div", judgment.about, { class: "lmj-soft" }),
      judgment.parts.length && marked(judgment.parts), judgment.key && make("div", `key ${judgment.key}`, { class: "lmj-soft" }))));
  };
  const key = event => {
    if (typing(event.target)) return false;
    if (event.key === "j" || event.key === "ArrowRight") go(1);
    else if (event.key === "k" || event.key === "ArrowLeft") go(-1);
    else if (event.key === "/") search.focus();
    else return false;
    return true;
  };
  return { show, key };
}

function vote(model, root, send) {
  const content = make("div");
  root.append(content);
  let place = null;
  let chosen = {};
  const cast = choice => send({ choice, place: model.get("state").place });
  const undo = () => send({ undo: true });
  const finish = () => send({ finish: true });
  let opinion = {};
  let draft = "";
  let coming = null; // the nodes of the two replies that are still arriving
  const choose = (name, option) => {
    chosen[name] = option;
    show();
  };
  const think = (name, value) => {
    opinion[name] = value;
    if ("reasonable" in opinion && "change" in opinion) {
      send({ opinion });
      opinion = {};
    } else show();
  };
  const ballot = state => {
    if (state.form === "hhh") {
      const rows = state.criteria.map((name, at) => box("lmj-bar", make("strong", `More ${name}: `),
        ...state.options.map((label, option) => button(label, () => choose(name, option + 1), { "aria-pressed": String(chosen[name] === option + 1) }))));
      const send_it = button("Vote (Enter)", () => cast(chosen));
      send_it.disabled = state.criteria.some(name => !chosen[name]);
      return box("lmj-ballot", ...rows, box("lmj-bar", send_it));
    }
    return box("lmj-bar", button("A is better (a)", () => cast("a")), button("B is better (b)", () => cast("b")),
      button("tie (t)", () => cast("tie")), button("both are bad (x)", () => cast("both_bad")));
  };
  const talk = shown => {
    const replies = shown.question.map((turn, at) => ["a", "b"].map(side => said(shown[side][at] ?? "")));
    coming = replies.at(-1);
    return shown.question.flatMap((turn, at) => [said(turn),
      box("lmj-sides", ...replies[at].map((text, side) => box("lmj-answer", make("h4", "AB"[side]), text)))]);
  };
  const sides = shown => [...shown.question.map(turn => said(turn)),
    box("lmj-sides", ...["a", "b"].map(side => box("lmj-answer", make("h4", side.toUpperCase()), ...shown[side].map(turn => said(turn)))))];
  const asking = (label, what) => {
    const text = make("textarea", null, { "aria-label": "Prompt", placeholder: "Ask both models something", oninput: () => { draft = text.value; } });
    text.value = draft;
    const ask = () => {
      if (text.value.trim()) send({ [what]: text.value });
      else text.focus();
    };
    text.onkeydown = event => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask();
    };
    return [text, box("lmj-bar", button(`${label} (Ctrl+Enter)`, ask))];
  };
  const names = rows => {
    const table = make("table", null, { class: "lmj-named" });
    const line = (kind, texts) => {
      const row = make("tr");
      row.append(...texts.map(text => make(kind, text)));
      table.append(row);
    };
    line("th", ["Question", "A", "B", "Your vote"]);
    for (const row of rows) line("td", [row.question, row.a, row.b, row.vote]);
    return table;
  };
  const show = () => {
    const state = model.get("state");
    if (state.place !== place) {
      place = state.place;
      chosen = {};
      draft = "";
    } else if (coming && state.answering && !state.error) {
      // Update in place, so that scrolling and focus stay.
      return coming.forEach((node, side) => { node.textContent = state.case["ab"[side]].at(-1) ?? ""; });
    }
    coming = null;
    const focused = root.contains(document.activeElement);
    content.replaceChildren();
    content.append(box("lmj-bar",
      make("strong", state.prompts ? `${state.done} voted on` : `${state.done} of ${state.of} voted on`, { role: "status" }),
      make("span", `voter: ${state.voter}`, { class: "lmj-soft" }), !state.named.length && button("undo (u)", undo)));
    if (state.error) content.append(make("div", state.error, { class: "lmj-error", role: "alert" }));
    if (state.review) {
      const answer = (name, label) => box("lmj-bar", make("strong", label),
        ...[["yes", true], ["no", false]].map(([word, value]) => button(word, () => think(name, value), { "aria-pressed": String(opinion[name] === value), "data-asked": `${name}-${word}` })));
      content.append(make("h3", `${state.review.judge} judged differently: ${state.review.winner}`), ...sides(state.review.case),
        ...state.review.judgments.map(judgment => box("lmj-judgment", make("div", judgment.about, { class: "lmj-soft" }), marked(judgment.parts))),
        answer("reasonable", "Is this judgment reasonable? "), answer("change", "Would you change your vote? "));
    } else if (state.case) {
      content.append(...(state.arena ? talk(state.case) : sides(state.case)));
      if (state.halted) content.append(box("lmj-bar", button("Try again", () => send({}))));
      else if (state.answering) content.append(make("p", "Both are answering …", { role: "status" }));
      else content.append(ballot(state));
      if (!state.answering) coming = null;
      if (state.arena && !state.answering) content.append(...asking("Continue with both", "follow_up"));
    } else if (!state.prompts) content.append(make("p", "All pairs have your vote. Thank you."));
    if (state.named.length) content.append(make("p", "The session has ended. These are the models:"), names(state.named));
    else if (state.may_finish && !state.review) content.append(box("lmj-bar", button("End and name the models", finish)));
    if (state.prompts && !state.named.length && !state.case && !state.review) {
      content.append(...asking("Ask both", "prompt"));
    }
    if (focused && !root.contains(document.activeElement)) root.focus({ preventScroll: true });
  };
  const key = event => {
    if (typing(event.target)) return false;
    const state = model.get("state");
    const plain = { a: "a", b: "b", t: "tie", x: "both_bad" };
    if (event.key === "u" && !state.named.length) undo();
    else if (state.review || !state.case || state.answering) return false;
    else if (state.form === "hhh") {
      const open = state.criteria.find(name => !chosen[name]);
      if (open && /^[1-5]$/.test(event.key)) choose(open, Number(event.key));
      else if (event.key === "Enter" && !open && event.target.tagName !== "BUTTON") cast(chosen);
      else return false;
    } else if (plain[event.key]) cast(plain[event.key]);
    else return false;
    return true;
  };
  return { show, key };
}

export default {
  render({ model, el }) {
    // Keys typed here must not trigger JupyterLab's shortcuts (a: insert a cell above).
    const root = make("div", null, { class: "lmj", tabindex: "0", "data-lm-suppress-shortcuts": "true" });
    el.append(root);
    const view = (model.get("state").view === "browse" ? browse : vote)(model, root, message => model.send(message));
    root.addEventListener("keydown", event => {
      const ours = !event.ctrlKey && !event.metaKey && !event.altKey && !event.repeat;
      if (ours && view.key(event)) event.preventDefault();
      event.stopPropagation();
    });
    model.on("change:state", view.show);
    view.show();
    return () => model.off("change:state", view.show);
  },
};
