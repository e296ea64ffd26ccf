"use strict";
// All texts reach the page as text nodes, never as markup: they come from strangers.

const PAGE_LENGTH = 50;
const byId = (id) => document.getElementById(id);
const plain = (text) => text.normalize("NFKC").toLowerCase();
const count = (n) => n.toLocaleString("en");

function element(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function itemTable() {
  const data = JSON.parse(byId("item-data").textContent);
  const column = Object.fromEntries(data.columns.map((name, index) => [name, index]));
  const body = byId("item-rows");
  const controls = { search: byId("item-search"), status: byId("item-status"), suspect: byId("item-suspect") };
  const sort = { by: null, descending: false };
  let shown = data.rows;
  let first = 0;
  let searched = null;

  function matches() {
    const words = plain(controls.search.value).split(/\s+/).filter(Boolean);
    searched ??= data.rows.map((row) => plain([row[column.id], row[column.title], row[column.caption],
      row[column.reason]].join("\n")));
    const status = controls.status.value;
    const suspect = controls.suspect.value;
    return data.rows.filter((row, index) =>
      (!status || row[column.status] === status) &&
      (!suspect || (suspect === "any" ? row[column.suspects].length > 0
        : row[column.suspects].includes(Number(suspect)))) &&
      words.every((word) => searched[index].includes(word)));
  }

  function ordered(rows) {
    if (sort.by === null) return rows;
    const at = column[sort.by];
    const turn = sort.descending ? -1 : 1;
    // Items without a value come last in both directions.
    return rows.toSorted((a, b) => {
      if (a[at] === null || b[at] === null) return (a[at] === null) - (b[at] === null);
      return turn * (typeof a[at] === "number" ? a[at] - b[at] : a[at].localeCompare(b[at], "en", { numeric: true }));
    });
  }

  function told(text, tag = "span") {
    return element(tag, { class: "told lines", dir: "auto" }, text);
  }

  function cell(name, ...children) {
    return element("td", { role: "cell", class: name }, ...children);
  }

  function drawn(row) {
    const who = element("th", { role: "rowheader", scope: "row", class: "who" },
      element("span", { class: "id told", dir: "auto" }, row[column.id]));
    if (row[column.title]) who.append(element("br"), told(row[column.title]));
    const what = cell("what", row[column.status] === "ok" ? told(row[column.caption], "div")
      : element("span", { class: "muted told" }, row[column.reason] || "no caption"));
    const marks = cell("marks");
    if (row[column.status] !== "ok") {
      marks.append(element("span", { class: row[column.status] === "failed" ? "chip bad" : "chip" }, row[column.status]), " ");
    }
    for (const kind of row[column.suspects]) marks.append(element("span", { class: "chip warn" }, data.kinds[kind]), " ");
    const figure = (name, digits) => cell("num " + name,
      row[column[name]] === null ? "" : row[column[name]].toLocaleString("en",
        { minimumFractionDigits: digits, maximumFractionDigits: digits }).replace("-", "\u2212"));
    return element("tr", { role: "row" }, who, what, marks, figure("words", 0), figure("grounding", 3));
  }

  function draw() {
    const last = Math.min(first + PAGE_LENGTH, shown.length);
    body.replaceChildren(...shown.slice(first, last).map(drawn));
    const all = shown.length === data.rows.length ? "" : ` (of ${count(data.rows.length)})`;
    byId("item-count").textContent = shown.length === 0 ? `No item matches${all}.`
      : `Items ${count(first + 1)} to ${count(last)} of ${count(shown.length)}${all}`;
    byId("item-previous").disabled = first === 0;
    byId("item-next").disabled = last >= shown.length;
  }

  function update() {
    shown = ordered(matches());
    first = 0;
    draw();
  }

  function turn(pages) {
    first += pages * PAGE_LENGTH;
    draw();
    byId("items").scrollIntoView();
  }

  let waiting;
  controls.search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(update, 120); });
  controls.status.addEventListener("change", update);
  controls.suspect.addEventListener("change", update);
  byId("item-clear").addEventListener("click", () => {
    for (const control of Object.values(controls)) control.value = "";
    update();
  });
  byId("item-previous").addEventListener("click", () => turn(-1));
  byId("item-next").addEventListener("click", () => turn(1));
  for (const button of document.querySelectorAll("button.sort")) {
    button.addEventListener("click", () => {
      sort.descending = sort.by === button.dataset.by && !sort.descending;
      sort.by = button.dataset.by;
      for (const head of document.querySelectorAll("#items th[aria-sort]")) head.removeAttribute("aria-sort");
      button.closest("th").setAttribute("aria-sort", sort.descending ? "descending" : "ascending");
      update();
    });
  }
  for (const button of document.querySelectorAll("button[data-suspect], button[data-status]")) {
    button.addEventListener("click", () => {
      controls.search.value = "";
      controls.status.value = button.dataset.status ?? "";
      controls.suspect.value = button.dataset.suspect ?? "";
      update();
      byId("items").scrollIntoView();
      controls.suspect.focus({ preventScroll: true });
    });
  }
  draw();
}

function gallery() {
  const search = byId("gallery-search");
  const group = byId("gallery-group");
  if (!search) return;
  const groups = [...document.querySelectorAll("[data-gallery]")].map((part) => ({
    part, cards: [...part.querySelectorAll(".card")].map((card) => [card, plain(card.textContent)]),
  }));

  function update() {
    const words = plain(search.value).split(/\s+/).filter(Boolean);
    let left = 0;
    for (const { part, cards } of groups) {
      const wanted = !group.value || group.value === part.dataset.gallery;
      let inside = 0;
      for (const [card, text] of cards) {
        card.hidden = !(wanted && words.every((word) => text.includes(word)));
        if (!card.hidden) inside += 1;
      }
      part.hidden = inside === 0;
      left += inside;
    }
    byId("gallery-count").textContent = `${count(left)} ${left === 1 ? "item" : "items"} shown`;
  }

  search.addEventListener("input", update);
  group.addEventListener("change", update);
}

function embeddingMap() {
  const data = JSON.parse(byId("map-data").textContent);
  const dots = [...byId("map").querySelectorAll("circle")];
  const number = new Map(dots.map((dot, index) => [dot, index]));
  const colour = byId("map-colour");
  const search = byId("map-search");
  let searched = null;
  let chosen = null;

  function classOf(colouring, group) {
    return group < 0 ? "none" : `${colouring.ordered ? "part" : "group"}-${group}`;
  }

  function swatch(name) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const circle = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    svg.setAttribute("viewBox", "0 0 10 10");
    svg.setAttribute("aria-hidden", "true");
    for (const [key, value] of [["cx", 5], ["cy", 5], ["r", 5], ["class", name]]) circle.setAttribute(key, value);
    svg.append(circle);
    return svg;
  }

  function paint() {
    const colouring = data.colourings[Number(colour.value)];
    dots.forEach((dot, index) => dot.setAttribute("class", classOf(colouring, colouring.of[index])));
    const sizes = new Map();
    for (const group of colouring.of) sizes.set(group, (sizes.get(group) ?? 0) + 1);
    const entry = (name, group) => element("li", {}, swatch(classOf(colouring, group)),
      element("span", { class: "told", dir: "auto" }, name), ` ${count(sizes.get(group))}`);
    const entries = colouring.groups.map((name, group) => [name, group]).filter(([, group]) => sizes.has(group));
    if (sizes.has(-1)) entries.push(["no value", -1]);
    byId("map-legend").replaceChildren(...entries.map(([name, group]) => entry(name, group)));
    if (chosen !== null) dots[chosen].classList.add("chosen");
  }

  function show(index) {
    if (chosen !== null) dots[chosen].classList.remove("chosen");
    chosen = index;
    dots[index].classList.add("chosen");
    const [id, title] = data.items[index];
    const said = element("div", {}, element("p", {}, element("span", { class: "id told", dir: "auto" }, id), " ",
      element("span", { class: "told", dir: "auto" }, title)));
    for (const colouring of data.colourings) {
      const group = colouring.of[index];
      said.append(element("p", { class: "muted" }, `${colouring.name}: `,
        element("span", { class: "told", dir: "auto" }, group < 0 ? "no value" : colouring.groups[group])));
    }
    const jpeg = data.pictures[index];
    const picture = jpeg ? [element("img", { alt: id, src: `data:image/jpeg;base64,${jpeg}` })] : [];
    byId("map-item").replaceChildren(...picture, said);
  }

  function find() {
    const words = plain(search.value).split(/\s+/).filter(Boolean);
    searched ??= data.items.map((texts) => plain(texts.join("\n")));
    const found = words.length === 0 ? -1 : searched.findIndex((text) => words.every((word) => text.includes(word)));
    if (found >= 0) show(found);
    else if (words.length > 0) byId("map-item").replaceChildren(element("p", { class: "muted" }, "No item on the map matches."));
  }

  byId("map").addEventListener("click", (event) => { if (number.has(event.target)) show(number.get(event.target)); });
  colour.addEventListener("change", paint);
  search.addEventListener("input", find);
  paint();
}

if (byId("map-data")) embeddingMap();
if (byId("item-data")) itemTable();
if (byId("gallery-search")) gallery();
