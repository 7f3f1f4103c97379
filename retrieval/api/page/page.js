"use strict";
// Nothing of the catalogue is ever written as HTML: titles come from shops.

const $ = (id) => document.getElementById(id);
const item = $("item"), options = $("options"), message = $("message");
let found = [], chosen = -1, asking = null, latest = 0;

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "a", "line", "circle", "text", "title"].includes(tag) && attributes.svg;
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (name !== "svg" && value !== null && value !== undefined) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

async function call(path, body, signal) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  const token = sessionStorage.getItem("token");
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(path, { method: body ? "POST" : "GET", headers, signal, body: body && JSON.stringify(body) });
  if (answer.status === 401) {
    const given = prompt("This server needs a token to read:");
    if (given) {
      sessionStorage.setItem("token", given.trim());
      return call(path, body, signal);
    }
  }
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.detail || `${answer.status} ${answer.statusText}`);
  return content;
}

const titled = (one) => one.title || one.item_id;
const facts = (one) =>
  [one.title ? one.item_id : null, one.category, one.brand, one.price ?? null].filter((fact) => fact !== null && fact !== undefined).join(" · ");

// Completion

let typing;
item.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(complete, 120);
});

async function complete() {
  asking?.abort();
  const text = item.value.trim();
  if (!text) return close();
  asking = new AbortController();
  try {
    found = (await call(`v1/items?q=${encodeURIComponent(text)}`, null, asking.signal)).items;
  } catch (error) {
    if (error.name !== "AbortError") message.textContent = error.message;
    return;
  }
  chosen = -1;
  options.replaceChildren(
    ...found.map((one, place) => {
      const option = make("li", { role: "option", id: `option-${place}`, "aria-selected": "false" }, titled(one));
      option.append(make("small", {}, facts(one)));
      option.addEventListener("mousedown", (event) => {
        event.preventDefault();
        take(place);
      });
      return option;
    }),
  );
  options.hidden = !found.length || document.activeElement !== item;
  item.setAttribute("aria-expanded", String(!options.hidden));
  item.removeAttribute("aria-activedescendant");
}

function close() {
  asking?.abort();
  options.hidden = true;
  chosen = -1;
  item.setAttribute("aria-expanded", "false");
  item.removeAttribute("aria-activedescendant");
}

function move(by) {
  if (options.hidden || !found.length) return;
  options.children[chosen]?.setAttribute("aria-selected", "false");
  chosen = (chosen + by + found.length + (chosen < 0 && by < 0 ? 1 : 0)) % found.length;
  const option = options.children[chosen];
  option.setAttribute("aria-selected", "true");
  option.scrollIntoView({ block: "nearest" });
  item.setAttribute("aria-activedescendant", option.id);
}

function take(place) {
  item.value = found[place].item_id;
  close();
  ask();
}

item.addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    if (options.hidden) complete();
    else move(event.key === "ArrowDown" ? 1 : -1);
  } else if (event.key === "Escape") close();
  else if (event.key === "Enter" && chosen >= 0) {
    event.preventDefault();
    take(chosen);
  }
});
item.addEventListener("blur", close);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !["INPUT", "TEXTAREA"].includes(document.activeElement.tagName)) {
    event.preventDefault();
    item.focus();
    item.select();
  }
});

// Asking

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});

function show(id) {
  item.value = id;
  // What was chosen is gone with the old results: the keyboard goes on from the new ones.
  ask().then(() => $("viewed").focus({ preventScroll: true }));
  scrollTo({ top: 0, behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
}

async function ask() {
  clearTimeout(typing);
  close();
  const mine = ++latest;
  const id = item.value.trim();
  const before = $("before").value.split(",").map((one) => one.trim()).filter((one) => one);
  const body = { items: [...before, id], k: Number($("k").value) || 12 };
  const country = $("country").value.trim(), category = $("category").value.trim(), expected = $("expected").value.trim();
  if (country) body.country = country;
  if (category) body.filters = { category };
  if (expected) body.expected = expected;
  const query = $("query").value.trim(), off = ["session", "prerank"].filter((stage) => !$(stage).checked);
  if (query) body.query = query;
  if (off.length) body.stages = Object.fromEntries(off.map((stage) => [stage, false]));
  message.textContent = "…";
  let answer, graph;
  try {
    answer = await call("v1/explain", body);
    graph = answer.unknown_items.includes(id) ? null : await call(`v1/items/${encodeURIComponent(id)}/graph`);
  } catch (error) {
    if (mine === latest) message.textContent = error.message;
    return;
  }
  if (mine !== latest) return;
  const address = new URLSearchParams({ item: id, k: body.k });
  for (const [name, value] of Object.entries({ country, category, expected, query, before: before.join(","), off: off.join(" ") })) if (value) address.set(name, value);
  history.replaceState(null, "", `?${address}`);
  message.textContent = answer.unknown_items.length
    ? answer.results.some((one) => one.reason === "fallback")
      ? "This version does not know the item: what is popular is shown instead."
      : `This version does not know ${answer.unknown_items.join(", ")}.`
    : answer.results.length ? "" : "No ad is eligible here. Ask why for one that you expected.";
  viewed(graph);
  verdict(answer.expected);
  cards(answer.results, expected);
  ego(graph);
}

function viewed(graph) {
  $("viewed").hidden = !graph;
  if (graph) $("viewed").replaceChildren(make("strong", {}, titled(graph.nodes[0])), make("small", {}, facts(graph.nodes[0])));
}

function verdict(expected) {
  $("missing").hidden = !expected;
  if (!expected) return;
  $("missing").className = expected.shown ? "shown" : "";
  const said = expected.shown ? `${expected.expected} is shown, at rank ${expected.rank}.` : `${expected.expected} is not shown:`;
  $("missing").replaceChildren(make("strong", {}, said), make("ul", {}, ...expected.why.map((why) => make("li", {}, why))));
}

const name = (reason) => ({ strong_click: "direct click", swing: "Swing", co_search: "co-search" })[reason] || reason;

function cards(results, expected) {
  $("found").hidden = !results.length;
  const top = Math.max(...results.map((one) => one.stages?.retrieval ?? one.score), 1e-9);
  $("cards").replaceChildren(...results.map((one) => card(one, top, expected)));
}

function card(one, top, expected) {
  const node = make("li", { class: [one.item_id, one.ad_id].includes(expected) ? "card expected" : "card" });
  node.append(
    make("div", { class: "top" }, make("span", {}, `#${one.rank}`), make("span", {}, one.score.toFixed(3))),
  );
  const title = make("button", { type: "button", title: "show the ads beside this item" }, titled(one.item));
  title.addEventListener("click", () => show(one.item_id));
  node.append(make("h3", {}, title), make("small", {}, facts(one.item)));
  if (one.parts) {
    const bar = make("div", { class: "bar", "aria-hidden": "true" });
    const drawn = ["embedding", "direct", "viewed before"].filter((part) => one.parts[part] > 0);
    const whole = Math.max(top, drawn.reduce((sum, part) => sum + one.parts[part], 0));
    for (const part of drawn) {
      const piece = make("i", { class: part });
      piece.style.width = `${(100 * one.parts[part]) / whole}%`;
      bar.append(piece);
    }
    node.append(bar);
  }
  const reasons = one.reason.split("+").map((reason) => make("span", { class: `reason ${reason}` }, name(reason)));
  if (one.shared_category) reasons.push(make("span", { class: "reason category" }, one.shared_category));
  node.append(make("div", { class: "reasons" }, ...reasons));
  const rows = [];
  if (one.ad_id) rows.push(["ad", one.ad_id]);
  for (const [key, value] of Object.entries(one.ad || {}))
    if (value !== null && String(value) !== "") rows.push([key.replace("_id", "").replace("_at", ""), Array.isArray(value) ? value.join(", ") : value]);
  for (const [key, value] of Object.entries(one.parts || {})) rows.push([key, value.toFixed(4)]);
  if (one.stages && one.stages.prerank !== undefined) {
    rows.push(["retrieval", one.stages.retrieval.toFixed(4)], ["pre-ranker", one.stages.prerank.toFixed(4)]);
    for (const [key, value] of Object.entries(one.stages.counters)) rows.push([key.replace(">", " → "), value.toFixed(4)]);
  }
  for (const edge of one.edges) rows.push([name(edge.type), `weight ${edge.weight.toPrecision(3)}`]);
  rows.push(["events", one.item.events]);
  const list = make("dl", {}, ...rows.flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, String(value))]));
  node.append(make("details", {}, make("summary", {}, "why, and which ad"), list));
  return node;
}

// The ego graph: the strongest neighbours on a circle, strongest on top and then clockwise

function ego(graph) {
  const there = graph && graph.nodes.length > 1;
  $("graph").hidden = !there;
  if (!there) return;
  const n = graph.nodes.length - 1, radius = 178;
  const at = (place) => {
    if (!place) return [0, 0];
    const angle = (2 * Math.PI * (place - 1)) / n - Math.PI / 2;
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  };
  const most = {};
  for (const edge of graph.edges) most[edge.type] = Math.max(most[edge.type] || 0, edge.weight);
  const share = (edge) => edge.weight / most[edge.type];
  // All edges of the item itself, and the strongest among its neighbours: more would be a grey disc.
  const own = graph.edges.filter((edge) => !edge.from || !edge.to);
  const among = graph.edges.filter((edge) => edge.from && edge.to).sort((a, b) => share(b) - share(a)).slice(0, 3 * n);
  const lines = [...among, ...own]
    .map((edge) => {
      const [x1, y1] = at(edge.from), [x2, y2] = at(edge.to);
      const width = 0.8 + 4 * share(edge);
      const shift = { strong_click: -2, swing: 2, co_search: 5 }[edge.type] || 0;
      const length = Math.hypot(x2 - x1, y2 - y1) || 1, dx = (shift * (y1 - y2)) / length, dy = (shift * (x2 - x1)) / length;
      return make("line", {
        svg: 1, x1: x1 + dx, y1: y1 + dy, x2: x2 + dx, y2: y2 + dy, "stroke-width": width,
        class: `${edge.type}${edge.from && edge.to ? " among" : ""}`,
      });
    });
  const nodes = graph.nodes.map((one, place) => {
    const [x, y] = at(place);
    const full = `${titled(one)}${facts(one) ? `, ${facts(one)}` : ""}`;
    const link = make("a", { svg: 1, "aria-label": full, class: place ? "" : "centre" });
    link.append(make("title", { svg: 1 }, full), make("circle", { svg: 1, cx: x, cy: y, r: place ? 7 : 11 }));
    if (place) {
      const degrees = (Math.atan2(y, x) * 180) / Math.PI, left = x < -1;
      const turned = left ? degrees + 180 : degrees;
      const label = titled(one).length > 16 ? `${titled(one).slice(0, 15)}…` : titled(one);
      link.append(
        make("text", {
          svg: 1, transform: `translate(${x} ${y}) rotate(${turned}) translate(${left ? -12 : 12} 4)`,
          "text-anchor": left ? "end" : "start",
        }, label),
      );
      link.setAttribute("tabindex", 0);
      link.setAttribute("role", "link");
      link.addEventListener("click", () => show(one.item_id));
      link.addEventListener("keydown", (event) => event.key === "Enter" && show(one.item_id));
    }
    return link;
  });
  $("ego").replaceChildren(...lines, ...nodes);
}

// Beginning

call("v1/version").then((served) => {
  for (const [stage, there] of Object.entries(served.stages)) $(`${stage}-field`).hidden = !there;
  $("stages").hidden = !Object.values(served.stages).some((there) => there);
  $("query-field").hidden = !served.stages.prerank;
  const when = new Date(served.as_of).toISOString().slice(0, 16).replace("T", " ");
  const ads = served.ads === null ? "every item is advertised" : `${served.ads_in_flight.toLocaleString()} ads in flight`;
  $("version").textContent = `${served.items.toLocaleString()} items, ${ads}; version ${served.version}, as of ${when} UTC`;
}).catch((error) => { message.textContent = error.message; });

const address = new URLSearchParams(location.search);
for (const field of ["item", "k", "country", "category", "expected", "query", "before"])
  if (address.get(field)) $(field).value = address.get(field);
for (const stage of ["session", "prerank"])
  if ((address.get("off") || "").split(" ").includes(stage)) $(stage).checked = false;
if (address.get("item")) ask();
else item.focus();
