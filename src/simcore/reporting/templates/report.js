"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { picks, targets, classes } = data;
  const size = picks.id.length;
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

  /* Text only ever enters the page as text: no markup is made from data. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "class") element.className = value;
      else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  const uri = (thumb) => `data:${targets.mime};base64,${thumb}`;
  const number = (value) => value.toLocaleString("en");
  const similar = (value) => (value === null ? "–" : value.toFixed(3));
  const className = (pick) => (picks.label && picks.label[pick] >= 0 ? classes[picks.label[pick]] ?? String(picks.label[pick]) : "");

  function picture(thumb, name) {
    if (!thumb) return make("span", { class: "blank" }, name);
    return make("img", { src: uri(thumb), alt: name, loading: "lazy", decoding: "async" });
  }

  /* ---- the two strips of the head ---- */
  function spread(list, count) {
    const step = Math.max(1, Math.floor(list.length / count));
    return list.filter((_, place) => place % step === 0).slice(0, count);
  }
  for (const strip of $$("[data-strip]")) {
    const source = strip.dataset.strip === "target" ? targets : picks;
    const seen = source.id.map((_, place) => place).filter((place) => source.thumb[place]);
    const chosen = strip.dataset.strip === "target" ? spread(seen, 6) : seen.slice(0, 6);
    strip.append(...chosen.map((place) => picture(source.thumb[place], source.id[place])));
    if (!chosen.length) strip.closest("figure").remove();
  }

  /* ---- charts ---- */
  const SVG = "http://www.w3.org/2000/svg";
  function draw(tag, attributes, text) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }
  function ticks(low, high, most) {
    const rough = (high - low) / most || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((value) => value >= rough);
    const found = [];
    for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-6; value += step) found.push(value);
    return { found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
  }
  function chart(holder, spec) {
    const width = Math.max(260, holder.clientWidth), height = 230;
    const box = { left: 44, right: width - 8, top: 14, bottom: height - 34 };
    const xs = spec.series.flatMap((series) => series.x), ys = spec.series.flatMap((series) => series.y);
    const marks = spec.rules.map((rule) => rule.y);
    let low = Math.min(...ys, ...marks), high = Math.max(...ys, ...marks);
    if (spec.zero) low = 0;
    const pad = (high - low || Math.abs(high) || 1) * 0.06;
    low -= spec.zero ? 0 : pad; high += pad;
    const first = Math.min(...xs), last = Math.max(...xs);
    const X = (value) => box.left + ((value - first) / (last - first || 1)) * (box.right - box.left);
    const Y = (value) => box.bottom - ((value - low) / (high - low)) * (box.bottom - box.top);
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": describe(spec) });
    const vertical = ticks(low, high, 4);
    for (const value of vertical.found) {
      svg.append(draw("line", { class: "axis", x1: box.left, x2: box.right, y1: Y(value), y2: Y(value) }));
      svg.append(draw("text", { x: box.left - 8, y: Y(value) + 4, "text-anchor": "end" }, value.toFixed(vertical.digits)));
    }
    svg.append(draw("line", { class: "base", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
    for (const value of ticks(first, last, width / 70).found.filter(Number.isInteger)) {
      svg.append(draw("text", { x: X(value), y: box.bottom + 17, "text-anchor": "middle" }, number(value)));
    }
    svg.append(draw("text", { x: box.right, y: height - 2, "text-anchor": "end" }, spec.x));
    for (const rule of spec.rules) {
      svg.append(draw("line", { class: "rule", x1: X(Math.max(first, rule.x ?? first)), x2: box.right, y1: Y(rule.y), y2: Y(rule.y) }));
      svg.append(draw("text", { class: "rule-name", x: box.right, y: Y(rule.y) - 6, "text-anchor": "end" }, rule.name));
    }
    spec.series.forEach((series, place) => {
      const path = series.x.map((x, i) => `${i ? "L" : "M"}${X(x).toFixed(1)} ${Y(series.y[i]).toFixed(1)}`).join("");
      svg.append(draw("path", { d: path, style: `stroke: var(--s${(place % 6) + 1})` }));
    });
    follow(svg, spec, { X, Y, box, width });
    holder.replaceChildren(svg, ...(spec.series.length > 1 ? [legend(spec)] : []));
  }
  function describe(spec) {
    return spec.series.map((series) => `${series.name}: ${series.y[0].toFixed(3)} at ${spec.x} ${series.x[0]}, ${series.y.at(-1).toFixed(3)} at ${spec.x} ${series.x.at(-1)}`).join("; ");
  }
  function legend(spec) {
    return make("div", { class: "legend" }, ...spec.series.map((series, place) => {
      const line = make("i");
      line.style.background = `var(--s${(place % 6) + 1})`;
      return make("span", {}, line, series.name);
    }));
  }
  function follow(svg, spec, { X, Y, box, width }) {
    const cursor = draw("line", { class: "cursor", y1: box.top, y2: box.bottom, visibility: "hidden" });
    const said = draw("text", { class: "said", y: box.top });
    svg.append(cursor, said);
    svg.addEventListener("pointermove", (event) => {
      const at = ((event.clientX - svg.getBoundingClientRect().left) / svg.getBoundingClientRect().width) * width;
      const near = (series) => series.x.reduce((best, x, i) => (Math.abs(X(x) - at) < Math.abs(X(series.x[best]) - at) ? i : best), 0);
      const main = spec.series[0], place = near(main), x = X(main.x[place]);
      cursor.setAttribute("x1", x); cursor.setAttribute("x2", x); cursor.setAttribute("visibility", "visible");
      said.textContent = `${spec.x} ${number(main.x[place])}: ${spec.series.map((series) => series.y[near(series)].toFixed(3)).join(", ")}`;
      said.setAttribute("x", Math.min(Math.max(x, box.left), box.right));
      said.setAttribute("text-anchor", x > width / 2 ? "end" : "start");
    });
    svg.addEventListener("pointerleave", () => { cursor.setAttribute("visibility", "hidden"); said.textContent = ""; });
  }
  for (const holder of $$("[data-chart]")) {
    const spec = data.charts[holder.dataset.chart];
    let drawn = 0;
    new ResizeObserver(() => {
      if (holder.clientWidth && holder.clientWidth !== drawn) { drawn = holder.clientWidth; chart(holder, spec); }
    }).observe(holder);
  }

  /* ---- one pick, looked at closely ---- */
  const look = $("#look");
  const twinOf = new Map(data.duplicates.flatMap((group) => group.picks.map((pick) => [pick, group])));
  let order = [...Array(size).keys()], current = 0;
  function facts(pick) {
    const rows = [["rank", number(pick + 1)], ["pool row", number(picks.index[pick])]];
    if (picks.round[pick] > 0) rows.push(["round", number(picks.round[pick])]);
    if (picks.cluster[pick] >= 0) rows.push(["cluster", picks.cluster[pick]]);
    if (picks.similarity[pick] !== null) rows.push(["similarity", similar(picks.similarity[pick])]);
    if (className(pick)) rows.push(["class", className(pick) + (picks.hit?.[pick] ? " (of the target)" : "")]);
    const twin = twinOf.get(pick);
    if (twin) rows.push([twin.same ? "same file as" : "looks the same as", [...twin.picks.filter((p) => p !== pick).map((p) => `rank ${number(p + 1)}`), ...twin.targets.map((t) => `target ${targets.id[t]}`)].join(", ")]);
    return rows.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, String(value))));
  }
  function open(pick) {
    current = pick;
    const pair = [make("figure", {}, picture(picks.thumb[pick], picks.id[pick]), make("figcaption", {}, "pick"))];
    if (picks.nearest) {
      const near = picks.nearest[pick];
      const words = `nearest target image, cosine ${similar(picks.nearestSimilarity[pick])}: ${targets.id[near]}`;
      pair.push(make("figure", {}, picture(targets.thumb[near], targets.id[near]), make("figcaption", {}, words)));
    }
    $(".pair", look).replaceChildren(...pair);
    $("#look-name").textContent = picks.id[pick];
    $(".settings", look).replaceChildren(...facts(pick));
    if (!look.open) look.showModal();
  }
  function step(by) {
    const place = order.indexOf(current) + by;
    if (place >= 0 && place < order.length) open(order[place]);
  }
  look.addEventListener("click", (event) => {
    if (event.target === look) look.close();
    if (event.target.dataset.step) step(Number(event.target.dataset.step));
  });
  look.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  function tile(pick) {
    const value = make("span", { class: "value" }, make("span", {}, similar(picks.similarity[pick])));
    if (picks.hit?.[pick]) value.append(make("b", { title: `of a target class: ${className(pick)}` }, "✓"));
    return make("button", { class: "tile", type: "button", "data-pick": pick, title: picks.id[pick], onclick: () => open(pick) },
      picture(picks.thumb[pick], picks.id[pick]), value);
  }

  /* ---- contact sheet ---- */
  const form = $(".sheet-tools"), holder = $("#groups"), more = $("#more");
  const AT_ONCE = 10, FIRST_TILES = 24;
  const has = {
    cluster: picks.cluster.some((cluster) => cluster >= 0),
    round: picks.round.some((round) => round > 0),
    class: picks.label !== null && picks.label.some((label) => label >= 0),
    hit: picks.hit !== null,
  };
  function options(select, entries) {
    select.append(...entries.map(([value, words]) => make("option", { value }, words)));
  }
  function tally(values) {
    const counts = new Map();
    for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
    return counts;
  }
  for (const label of $$("[data-for]", form)) label.hidden = !has[label.dataset.for];
  const ways = [["cluster", "cluster"], ["round", "round"], ["class", "class"]].filter(([name]) => has[name]);
  options(form.group, [...ways, ["none", "nothing"]]);
  if (has.cluster) options(form.cluster, [...tally(picks.cluster)].sort((a, b) => a[0] - b[0]).map(([c, n]) => [c, `${c} (${n})`]));
  if (has.class) {
    const named = [...tally(picks.id.map((_, pick) => className(pick)))].sort((a, b) => a[0].localeCompare(b[0]));
    options(form.class, named.map(([name, n]) => [name || "\u0000", `${name || "none"} (${n})`]));
  }
  function wanted() {
    const text = form.text.value.trim().toLowerCase();
    const least = form.least.value === "" ? -Infinity : Number(form.least.value);
    const round = form.round.value === "" ? Infinity : Number(form.round.value);
    const { cluster, hit } = { cluster: form.cluster.value, hit: form.hit.value };
    const named = form.class.value === "\u0000" ? "" : form.class.value;
    return picks.id.map((_, pick) => pick).filter((pick) =>
      (cluster === "" || picks.cluster[pick] === Number(cluster)) &&
      picks.round[pick] <= round &&
      (form.class.value === "" || className(pick) === named) &&
      (hit === "" || picks.hit[pick] === Number(hit)) &&
      (least === -Infinity || (picks.similarity[pick] ?? -Infinity) >= least) &&
      (text === "" || picks.id[pick].toLowerCase().includes(text)));
  }
  const value = (pick) => picks.similarity[pick] ?? -Infinity;
  const orders = {
    rank: (a, b) => a - b,
    high: (a, b) => value(b) - value(a) || a - b,
    low: (a, b) => value(a) - value(b) || a - b,
    name: (a, b) => (picks.id[a] < picks.id[b] ? -1 : picks.id[a] > picks.id[b] ? 1 : a - b),
  };
  const keys = { cluster: (pick) => picks.cluster[pick], round: (pick) => picks.round[pick], class: className, none: () => "" };
  function mean(list) {
    const known = list.map((pick) => picks.similarity[pick]).filter((similarity) => similarity !== null);
    return known.length ? known.reduce((sum, similarity) => sum + similarity, 0) / known.length : null;
  }
  function grouped(list) {
    const groups = new Map();
    for (const pick of list) {
      const key = keys[form.group.value](pick);
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(pick);
    }
    const by = { high: (a, b) => mean(b[1]) - mean(a[1]), low: (a, b) => mean(a[1]) - mean(b[1]) }[form.sort.value];
    const plain = (a, b) => (typeof a[0] === "number" ? a[0] - b[0] : a[0].localeCompare(b[0]));
    return [...groups].sort(by ?? plain);
  }
  function heading(key, list) {
    const kind = form.group.value;
    const words = { cluster: key < 0 ? "No cluster" : `Cluster ${key}`, round: `Round ${key}`, class: key || "No class", none: "All picks" }[kind];
    const parts = [`${number(list.length)} pick${list.length === 1 ? "" : "s"}`];
    const middle = mean(list);
    if (middle !== null) parts.push(`mean similarity ${middle.toFixed(3)}`);
    if (picks.hit) parts.push(`${number(list.filter((pick) => picks.hit[pick]).length)} of a target class`);
    return make("h3", {}, words, make("small", {}, parts.join(" · ")));
  }
  function section([key, list]) {
    const beside = form.group.value === "cluster" ? data.exemplars[key] : undefined;
    const tiles = make("div", { class: "tiles" }, ...list.slice(0, FIRST_TILES).map(tile));
    if (list.length > FIRST_TILES) {
      const rest = make("button", { type: "button", class: "rest" }, `Show all ${number(list.length)}`);
      rest.addEventListener("click", () => rest.replaceWith(...list.slice(FIRST_TILES).map(tile)));
      tiles.append(rest);
    }
    const shown = beside ? [make("div", { class: "beside", role: "group", "aria-label": "Target images" }, ...beside.map((place) => {
      const image = picture(targets.thumb[place], targets.id[place]);
      image.title = [targets.id[place], targets.class[place]].filter(Boolean).join(", ");
      return image;
    }))] : [];
    return make("div", { class: beside ? "group" : "group alone" }, heading(key, list), ...shown, tiles);
  }
  let waiting = [];
  function showMore() {
    holder.append(...waiting.splice(0, AT_ONCE).map(section));
    more.hidden = !waiting.length;
    more.textContent = `Show more (${number(waiting.length)} groups left)`;
  }
  function refresh() {
    const list = wanted().sort(orders[form.sort.value]);
    waiting = grouped(list);
    order = waiting.flatMap(([, group]) => group);
    holder.replaceChildren();
    $("#count").textContent = list.length === size ? `${number(size)} picks` : `${number(list.length)} of ${number(size)} picks`;
    if (!list.length) holder.append(make("p", { class: "say" }, "No pick passes all of these filters."));
    showMore();
  }
  let soon = 0;
  form.addEventListener("input", () => { clearTimeout(soon); soon = setTimeout(refresh, 120); });
  form.addEventListener("reset", () => setTimeout(refresh));
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", showMore);
  new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting) && waiting.length) showMore(); }, { rootMargin: "600px" }).observe(more);
  holder.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by || !event.target.matches(".tile")) return;
    const all = $$(".tile", holder);
    all[all.indexOf(event.target) + by]?.focus();
    event.preventDefault();
  });
  refresh();
  const target = (place) => make("div", { class: "target" }, picture(targets.thumb[place], targets.id[place]), "target");
  $("#twins")?.append(...data.duplicates.slice(0, 60).map((group) => make("div", {}, ...group.targets.map(target), ...group.picks.map(tile))));

  /* ---- map ---- */
  const canvas = $(".plane canvas");
  if (canvas) map(canvas);
  function map(canvas) {
    const { map: points } = data;
    const tip = $(".tip"), said = $("#map-said");
    const view = { scale: 1, x: 0, y: 0 };
    const shown = Object.fromEntries($$("[data-layer]").map((box) => [box.dataset.layer, box.checked]));
    const images = new Map();
    let near = null, asked = 0, drag = null, visited = -1;
    const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    function frame() {
      const width = canvas.clientWidth, height = canvas.clientHeight, margin = 26;
      const fit = Math.min((width - 2 * margin) / Math.max(1, points.size[0]), (height - 2 * margin) / Math.max(1, points.size[1]));
      return { width, height, fit };
    }
    function place([x, y]) {
      const { width, height, fit } = frame();
      return [width / 2 + ((x - points.size[0] / 2) * fit + view.x) * view.scale, height / 2 - ((y - points.size[1] / 2) * fit + view.y) * view.scale];
    }
    const thumbOf = { pool: (i) => points.poolThumb[i], target: (i) => (points.targetPlace[i] >= 0 ? targets.thumb[points.targetPlace[i]] : ""), picks: (i) => picks.thumb[i] };
    function image(thumb) {
      if (!images.has(thumb)) {
        const loaded = new Image();
        loaded.onload = redraw;
        loaded.src = uri(thumb);
        images.set(thumb, loaded);
      }
      return images.get(thumb);
    }
    function redraw() { asked ||= requestAnimationFrame(paint); }
    function paint() {
      asked = 0;
      const { width, height } = frame(), ratio = window.devicePixelRatio || 1;
      canvas.width = width * ratio; canvas.height = height * ratio;
      const pen = canvas.getContext("2d");
      pen.scale(ratio, ratio);
      const grow = Math.min(2, Math.sqrt(view.scale));
      if (shown.pool) dots(pen, points.pool, 1.9 * grow, colour("--pool"), 0.75);
      if (shown.picks) dots(pen, points.picks, 2.7 * grow, colour("--picks"), 0.8);
      if (shown.target) rings(pen, points.target, 3.2 * grow, colour("--target"));
      if (shown.pictures) pictures(pen, width, height);
      if (near) mark(pen);
    }
    function dots(pen, list, radius, fill, alpha) {
      pen.fillStyle = fill; pen.globalAlpha = alpha;
      for (const point of list) { const [x, y] = place(point); pen.beginPath(); pen.arc(x, y, radius, 0, 7); pen.fill(); }
      pen.globalAlpha = 1;
    }
    function rings(pen, list, radius, stroke) {
      pen.strokeStyle = stroke; pen.lineWidth = 1.4;
      for (const point of list) { const [x, y] = place(point); pen.beginPath(); pen.arc(x, y, radius, 0, 7); pen.stroke(); }
    }
    function pictures(pen, width, height) {
      const side = 34, step = side + 5, cells = new Map();
      const free = (x, y) => {
        const column = Math.floor(x / step), row = Math.floor(y / step);
        for (let dx = -1; dx <= 1; dx++) for (let dy = -1; dy <= 1; dy++) {
          const other = cells.get(`${column + dx},${row + dy}`);
          if (other && Math.abs(other[0] - x) < step && Math.abs(other[1] - y) < step) return false;
        }
        cells.set(`${column},${row}`, [x, y]);
        return true;
      };
      for (const layer of ["target", "picks", "pool"]) {
        if (!shown[layer]) continue;
        points[layer].forEach((point, i) => {
          const thumb = thumbOf[layer](i), [x, y] = place(point);
          if (!thumb || x < 0 || y < 0 || x > width || y > height || !free(x, y)) return;
          const loaded = image(thumb);
          if (!loaded.complete) return;
          pen.fillStyle = colour(`--${layer}`);
          pen.fillRect(x - side / 2 - 2, y - side / 2 - 2, side + 4, side + 4);
          const edge = Math.min(loaded.naturalWidth, loaded.naturalHeight);
          pen.drawImage(loaded, (loaded.naturalWidth - edge) / 2, (loaded.naturalHeight - edge) / 2, edge, edge, x - side / 2, y - side / 2, side, side);
        });
      }
    }
    function mark(pen) {
      const [x, y] = place(points[near.layer][near.i]);
      pen.strokeStyle = colour("--ink"); pen.lineWidth = 2;
      const other = near.layer === "picks" && picks.nearest ? points.targetPlace.indexOf(picks.nearest[near.i]) : -1;
      if (other >= 0) { pen.beginPath(); pen.moveTo(x, y); pen.lineTo(...place(points.target[other])); pen.stroke(); }
      pen.beginPath(); pen.arc(x, y, 8, 0, 7); pen.stroke();
    }
    function find(x, y) {
      let best = null, reach = 16 * 16;
      for (const layer of ["pool", "target", "picks"]) {
        if (!shown[layer]) continue;
        points[layer].forEach((point, i) => {
          const [px, py] = place(point), distance = (px - x) ** 2 + (py - y) ** 2;
          if (distance < reach) { reach = distance; best = { layer, i }; }
        });
      }
      return best;
    }
    function words({ layer, i }) {
      if (layer === "pool") return ["pool, not chosen"];
      if (layer === "target") { const t = points.targetPlace[i]; return t < 0 ? ["target"] : ["target", targets.class[t], targets.id[t]]; }
      return [`pick ${number(i + 1)}, similarity ${similar(picks.similarity[i])}`, className(i), picks.id[i]];
    }
    function tell(found) {
      near = found;
      tip.hidden = !found;
      if (found) {
        const thumbs = [thumbOf[found.layer](found.i)];
        if (found.layer === "picks" && picks.nearest) thumbs.push(targets.thumb[picks.nearest[found.i]]);
        const pair = make("div", { class: "pair" }, ...thumbs.filter(Boolean).map((thumb) => make("img", { src: uri(thumb), alt: "" })));
        const lines = words(found).filter(Boolean);
        tip.replaceChildren(pair, ...lines.map((line) => make("div", {}, line)));
        if (thumbs.filter(Boolean).length > 1) tip.append(make("div", { class: "dim" }, "right: nearest target image"));
        const [x, y] = place(points[found.layer][found.i]), { width, height } = frame();
        tip.style.left = `${Math.max(4, Math.min(x + 14, width - tip.offsetWidth - 4))}px`;
        tip.style.top = `${Math.max(4, y + 14 + tip.offsetHeight > height ? y - tip.offsetHeight - 14 : y + 14)}px`;
        said.textContent = lines.join(", ");
      }
      redraw();
    }
    const spot = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
    function zoom(factor) {
      if (factor) view.scale = Math.min(40, Math.max(1, view.scale * factor));
      else Object.assign(view, { scale: 1, x: 0, y: 0 });
      if (near) tell(near); else redraw();
    }
    canvas.addEventListener("pointerdown", (event) => { drag = { at: spot(event), moved: false }; });
    window.addEventListener("pointerup", () => { drag = null; });
    canvas.addEventListener("pointermove", (event) => {
      const [x, y] = spot(event);
      if (drag && event.buttons) {
        view.x += (x - drag.at[0]) / view.scale; view.y -= (y - drag.at[1]) / view.scale;
        drag = { at: [x, y], moved: drag.moved || Math.hypot(x - drag.at[0], y - drag.at[1]) > 2 };
        canvas.dataset.moved = drag.moved ? "1" : "";
        tell(null);
      } else tell(find(x, y));
    });
    canvas.addEventListener("pointerleave", () => tell(null));
    canvas.addEventListener("click", (event) => {
      if (canvas.dataset.moved) { canvas.dataset.moved = ""; return; }
      const found = find(...spot(event));
      tell(found);
      if (found?.layer === "picks" && event.pointerType !== "touch") open(found.i);
    });
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      zoom(event.deltaY < 0 ? 1.15 : 0.87);
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (by) { visited = Math.min(size - 1, Math.max(0, visited + by)); tell({ layer: "picks", i: visited }); }
      else if (event.key === "Enter" && near?.layer === "picks") open(near.i);
      else if (event.key === "Escape") tell(null);
      else if (event.key === "+" || event.key === "=") zoom(1.5);
      else if (event.key === "-") zoom(1 / 1.5);
      else return;
      event.preventDefault();
    });
    canvas.addEventListener("blur", () => tell(null));
    for (const box of $$("[data-layer]")) box.addEventListener("change", () => { shown[box.dataset.layer] = box.checked; tell(null); });
    for (const button of $$("[data-zoom]")) button.addEventListener("click", () => zoom(Number(button.dataset.zoom)));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    new ResizeObserver(redraw).observe(canvas);
  }

  /* ---- which part is in view ---- */
  const links = new Map($$(".bar a").map((link) => [link.hash.slice(1), link]));
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  for (const name of links.keys()) { const part = document.getElementById(name); if (part) watcher.observe(part); }
})();
