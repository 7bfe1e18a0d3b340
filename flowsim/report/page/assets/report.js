// The chart that readers move through time. It draws what the page holds as JSON; nothing is fetched.
(() => {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg";
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("touch").textContent);
  const W = 460, H = 300, LEFT = 58, RIGHT = 14, TOP = 12, BOTTOM = 40;
  const SHAPES = {
    o: "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0", s: "M-3.6,-3.6h7.2v7.2h-7.2z", D: "M0,-5L5,0L0,5L-5,0z",
    "^": "M0,-4.8L4.6,3.6H-4.6z", v: "M0,4.8L4.6,-3.6H-4.6z",
    P: "M-1.6,-4.6h3.2v3h3v3.2h-3v3h-3.2v-3h-3v-3.2h3z",
    X: "M-4.4,-2.6L-2.6,-4.4L0,-1.8L2.6,-4.4L4.4,-2.6L1.8,0L4.4,2.6L2.6,4.4L0,1.8L-2.6,4.4L-4.4,2.6L-1.8,0z",
    "*": "M0,-5.4L1.3,-1.7L5.2,-1.7L2.1,.7L3.2,4.4L0,2.2L-3.2,4.4L-2.1,.7L-5.2,-1.7L-1.3,-1.7z",
  };
  const shape = (marker) => SHAPES[marker] || SHAPES.o;
  const state = { schedule: 0, moment: 0, shown: new Set(data.ranks.map((_, place) => place)), log: false };

  function element(tag, attributes, parent, text) {
    const made = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  }
  const html = (tag, text, parent, attributes = {}) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (parent) parent.append(made);
    return made;
  };
  // A number for a reader, four digits.
  function shown(value) {
    if (value === null || value === undefined) return "–";
    if (value === 0) return "0";
    const size = Math.abs(value);
    const text = size >= 1e-3 && size < 1e5 ? String(Number(value.toPrecision(4))) : value.toExponential(2).replace("e+", "e");
    return text.replaceAll("-", "−");
  }
  const power = (exponent) => "10" + String(exponent).replace(/./g, (sign) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(sign)]);

  // Scales: a value to a place on the paper; null where it has none.
  function scale(low, high, from, to, log) {
    const map = log ? Math.log10 : (value) => value;
    const [a, b] = [map(low), map(high)];
    return (value) => {
      if (value === null || (log && value <= 0)) return null;
      const part = (map(value) - a) / (b - a || 1);
      return from + Math.min(Math.max(part, -0.2), 1.2) * (to - from);
    };
  }
  function round(low, high, count) {
    const step = 10 ** Math.floor(Math.log10((high - low || 1) / count));
    const wide = [1, 2, 5, 10].map((factor) => factor * step).find((one) => (high - low) / one <= count);
    const found = [];
    for (let k = Math.ceil(low / wide - 1e-9); k * wide <= high * (1 + 1e-9); k++) found.push(Number((k * wide).toPrecision(12)));
    return found;
  }
  function decades(low, high, count) {
    const [a, b] = [Math.ceil(Math.log10(low) - 1e-9), Math.floor(Math.log10(high) + 1e-9)];
    const every = Math.max(Math.ceil((b - a + 1) / count), 1);
    const found = [];
    for (let k = a; k <= b; k += every) found.push(k);
    return found;
  }

  // One chart: frame, axes and a clipped place for marks.
  function chart(holder, title, xLabel, yLabel) {
    holder.replaceChildren();
    const svg = element("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "font-size": "12", "font-family": "system-ui, sans-serif" }, holder);
    const named = element("title", { id: `${holder.id}-title` }, svg, title);
    svg.setAttribute("aria-labelledby", named.id);
    const clip = element("clipPath", { id: `${holder.id}-clip` }, svg);
    element("rect", { x: LEFT, y: TOP - 6, width: W - LEFT - RIGHT, height: H - TOP - BOTTOM + 6 }, clip);
    const axes = element("g", { fill: "#333", stroke: "none" }, svg);
    const marks = element("g", { "clip-path": `url(#${clip.id})` }, svg);
    element("text", { x: (LEFT + W - RIGHT) / 2, y: H - 6, "text-anchor": "middle" }, axes, xLabel);
    element("text", { transform: `translate(13,${(TOP + H - BOTTOM) / 2}) rotate(-90)`, "text-anchor": "middle" }, axes, yLabel);
    element("path", { d: `M${LEFT},${TOP}V${H - BOTTOM}H${W - RIGHT}`, fill: "none", stroke: "#555" }, axes);
    return { svg, axes, marks };
  }
  function ticksX(axes, places) {
    for (const [x, text] of places) {
      element("path", { d: `M${x},${H - BOTTOM}v4`, stroke: "#555" }, axes);
      element("text", { x, y: H - BOTTOM + 17, "text-anchor": "middle" }, axes, text);
    }
  }
  function ticksY(axes, places) {
    for (const [y, text] of places) {
      element("path", { d: `M${LEFT},${y}H${W - RIGHT}`, stroke: "#e4e4e4" }, axes);
      element("text", { x: LEFT - 7, y: y + 4, "text-anchor": "end" }, axes, text);
    }
  }
  function line(points) {
    let path = "", pen = "M";
    for (const [x, y] of points) {
      if (x === null || y === null) { pen = "M"; continue; }
      path += `${pen}${x.toFixed(1)},${y.toFixed(1)}`;
      pen = "L";
    }
    return path;
  }

  const positive = (rows) => rows.flat(Infinity).filter((value) => value !== null && value > 0);
  const schedule = () => data.schedules[state.schedule];
  const visible = () => data.ranks.map((look, place) => [look, place]).filter(([, place]) => state.shown.has(place));

  function lossChart() {
    const own = schedule();
    const first = positive(data.schedules[0].excess.map((row) => row[0]));
    const high = Math.max(...first, 1e-300) * 30;
    const seen = positive(own.excess).filter((value) => value <= high);
    const low = Math.max(Math.min(...seen, high / 100), high * 1e-20) / 2;
    const log = data.log && own.times.length > 2 && own.times[1] > 0;
    const x = scale(log ? own.times[1] : own.times[0], own.times[own.times.length - 1], LEFT, W - RIGHT, log);
    const y = scale(low, high, H - BOTTOM, TOP, true);
    const { axes, marks } = chart(byId("loss-chart"), `Excess loss over time, ${own.label}, at t = ${shown(own.times[state.moment])}`, "flow time t", "excess loss");
    ticksY(axes, decades(low, high, 6).map((k) => [y(10 ** k), power(k)]));
    const end = own.times[own.times.length - 1];
    ticksX(axes, log ? decades(own.times[1], end, 6).map((k) => [x(10 ** k), power(k)]) : round(0, end, 6).map((t) => [x(t), shown(t)]));
    const now = x(own.times[state.moment]);
    if (now !== null) element("path", { d: `M${now},${TOP}V${H - BOTTOM}`, stroke: "#777", "stroke-dasharray": "3 3", class: "now" }, marks);
    for (const [look, place] of visible()) {
      const points = own.excess[place].map((value, k) => [x(own.times[k]), y(value)]);
      element("path", { d: line(points), fill: "none", stroke: look.colour, "stroke-width": 1, opacity: 0.45 }, marks);
      element("path", { d: line(points.slice(0, state.moment + 1)), fill: "none", stroke: look.colour, "stroke-width": 2.4, class: "so-far" }, marks);
      const [at, height] = points[state.moment];
      if (at !== null && height !== null) element("path", { d: shape(look.marker), transform: `translate(${at.toFixed(1)},${height.toFixed(1)})`, fill: look.colour, class: "spot" }, marks);
    }
  }

  function modeChart() {
    const own = schedule();
    const count = Math.max(...own.modes.map((rows) => Math.max(...rows.map((row) => row.length))));
    const all = positive([data.targets, data.schedules[0].modes]);
    const high = Math.max(...all, 1e-300) * 1.08;
    const low = state.log ? Math.max(Math.min(...all, high), high * 1e-10) / 2 : 0;
    const x = (mode) => LEFT + (mode + 0.5) * (W - LEFT - RIGHT) / count;
    const y = scale(low, high, H - BOTTOM, TOP, state.log);
    const { axes, marks } = chart(byId("mode-chart"), `Singular values of s·BA, ${own.label}, at t = ${shown(own.times[state.moment])}`, "mode i", "singular value");
    ticksY(axes, state.log ? decades(low, high, 6).map((k) => [y(10 ** k), power(k)]) : round(0, high, 6).map((v) => [y(v), shown(v)]));
    ticksX(axes, Array.from({ length: count }, (_, mode) => [x(mode), String(mode + 1)]));
    const room = 0.36 * (W - LEFT - RIGHT) / count;
    data.targets.slice(0, count).forEach((value, mode) => {
      const height = y(value);
      if (height !== null) element("path", { d: `M${x(mode) - room},${height.toFixed(1)}h${2 * room}`, stroke: "#777", "stroke-width": 1.6, "stroke-dasharray": "5 3" }, marks);
    });
    const ranks = visible();
    ranks.forEach(([look, place], index) => {
      const aside = ranks.length > 1 ? (index / (ranks.length - 1) - 0.5) * 1.4 * room : 0;
      const points = own.modes[place][state.moment].map((value, mode) => [x(mode) + aside, y(value)]);
      element("path", { d: line(points), fill: "none", stroke: look.colour, "stroke-width": 1, opacity: 0.5, class: "spectrum" }, marks);
      for (const [at, height] of points) {
        if (height !== null) element("path", { d: shape(look.marker), transform: `translate(${at.toFixed(1)},${height.toFixed(1)})`, fill: look.colour }, marks);
      }
    });
  }

  function table() {
    const own = schedule(), body = byId("moment-values").tBodies[0];
    body.replaceChildren();
    for (const [look, place] of visible()) {
      const row = html("tr", undefined, body);
      html("th", String(look.rank), row, { scope: "row" });
      for (const values of [own.loss, own.excess]) html("td", shown(values[place][state.moment]), row, { class: "number" });
      html("td", own.modes[place][state.moment].map(shown).join(", "), row);
    }
  }

  function draw() {
    const own = schedule();
    const said = `t = ${shown(own.times[state.moment])}`;
    byId("moment-said").textContent = said;
    byId("moment").setAttribute("aria-valuetext", said);
    lossChart();
    modeChart();
    table();
  }

  const slider = byId("moment"), select = byId("schedule");
  data.schedules.forEach((own, place) => html("option", own.label, select, { value: String(place) }));
  select.closest("p").hidden = data.schedules.length < 2;
  data.ranks.forEach((look, place) => {
    const label = html("label", undefined, byId("ranks-shown"));
    const box = html("input", undefined, label, { type: "checkbox", id: `rank-${look.rank}` });
    box.checked = true;
    const mark = element("svg", { viewBox: "-7 -7 14 14", width: 16, height: 16, "aria-hidden": "true", class: "swatch" }, label);
    element("circle", { r: 7, fill: "#fff" }, mark);
    element("path", { d: shape(look.marker), fill: look.colour }, mark);
    label.append(`r = ${look.rank}`);
    box.addEventListener("change", () => { state.shown[box.checked ? "add" : "delete"](place); draw(); });
  });
  slider.addEventListener("input", () => { state.moment = Number(slider.value); draw(); });
  select.addEventListener("change", () => {
    // The same part of the way: schedules record their own rounds.
    const part = state.moment / (schedule().times.length - 1);
    state.schedule = Number(select.value);
    slider.max = String(schedule().times.length - 1);
    state.moment = Math.round(part * (schedule().times.length - 1));
    slider.value = String(state.moment);
    draw();
  });
  byId("log-values").addEventListener("change", (event) => { state.log = event.target.checked; draw(); });
  slider.max = String(schedule().times.length - 1);
  state.moment = Math.round((schedule().times.length - 1) / 5);
  slider.value = String(state.moment);
  byId("touch-note").textContent = (data.seeds > 1 ? `Medians over ${data.seeds} seeds. ` : "") + "Arrow keys move the time when the slider has the focus.";
  byId("time").hidden = false;
  draw();
})();
