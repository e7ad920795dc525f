// The interactive part of an analysis: users as points, the chosen one, lines over layers. `data` is what page.py wrote.
const $ = (id) => document.getElementById(id);
let current = 0, layer = data.layer, chosen = 0;
// A colour of the stylesheet as the theme of the moment has it.
const css = (name) => { $("probe").style.color = `var(${name})`; return getComputedStyle($("probe")).color; };
const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const element = (tag, text, cls) => { const e = document.createElement(tag); if (text !== undefined) e.textContent = text; if (cls) e.className = cls; return e; };
const wrapped = (text) => escaped(text).replace(/(.{1,60})(\s+|$)/g, "$1<br>").replace(/<br>$/, "");
const config = { displaylogo: false, responsive: true, modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]] };

function layout(title, more) {
  const axis = { gridcolor: css("--grid"), zerolinecolor: css("--muted"), automargin: true };
  return Object.assign({ margin: { l: 44, r: 10, t: title ? 30 : 8, b: 40 }, paper_bgcolor: "transparent", plot_bgcolor: "transparent", font: { color: css("--ink"), size: 12, family: "system-ui, sans-serif" },
    title: title ? { text: title, font: { size: 13 }, x: 0, xanchor: "left", xref: "container" } : undefined, showlegend: false, hovermode: "closest", modebar: { orientation: "v", bgcolor: "transparent", color: css("--muted"), activecolor: css("--blue") },
    hoverlabel: { align: "left", bgcolor: css("--card"), bordercolor: css("--muted"), font: { color: css("--ink") } }, xaxis: { ...axis }, yaxis: { ...axis } }, more);
}

function thirds(set) {
  const count = set.users.length, ring = Math.min(10, Math.max(1, Math.floor(count / 4))), middle = Math.floor((count - ring) / 2);
  return (order) => order < ring ? 0 : order >= count - ring ? 2 : order >= middle && order < middle + ring ? 1 : 3;
}

function drawPoints(set) {
  const points = set.points[layer], around = set.around[layer], third = thirds(set);
  const kinds = [["nearest", css("--blue"), "circle"], ["middle", css("--green"), "square"], ["farthest", css("--orange"), "triangle-up"], ["others", css("--muted"), "circle-open"]];
  const traces = kinds.map(([name, color, symbol], kind) => {
    const places = set.users.map((_, i) => i).filter((i) => third(around[i].order) === kind);
    return { name, mode: "markers", type: "scatter", x: places.map((i) => points[i][0]), y: places.map((i) => points[i][1]), customdata: places,
      marker: { color, symbol, size: 9, line: { width: 1, color: css("--card") } },
      text: places.map((i) => "<b>" + escaped(set.users[i]) + "</b><br>" + set.texts[i].slice(0, 3).map(wrapped).join("<br>· ")), hovertemplate: "%{text}<extra></extra>" };
  });
  const mean = [0, 1].map((c) => points.reduce((sum, p) => sum + p[c], 0) / points.length);
  traces.push({ name: "mean: the collective shift", mode: "markers", x: [mean[0]], y: [mean[1]], marker: { symbol: "star", size: 18, color: css("--star"), line: { width: 1, color: "#000" } }, hovertemplate: "the collective shift<extra></extra>" });
  traces.push({ name: "chosen", mode: "markers", x: [points[chosen][0]], y: [points[chosen][1]], hoverinfo: "skip", showlegend: false, marker: { symbol: "circle-open", size: 20, color: css("--ink"), line: { width: 2 } } });
  Plotly.react("plot", traces, layout("", { margin: { l: 44, r: 10, t: 8, b: 40 }, showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom" }, xaxis: { title: { text: "component 0" }, gridcolor: css("--grid"), zerolinecolor: css("--muted") }, yaxis: { title: { text: "component 1" }, gridcolor: css("--grid"), zerolinecolor: css("--muted"), automargin: true } }), config);
}

function drawLines(set) {
  const colours = [css("--blue"), css("--orange")];
  const one = (id, title, lines) => {
    const traces = lines.filter(([, values]) => values.length).map(([name, values, dash], n) => ({ name, x: data.layers, y: values, mode: "lines", line: { dash, color: colours[n] }, hovertemplate: "layer %{x}: %{y:.2f}<extra>" + name + "</extra>" }));
    const shapes = [{ type: "line", x0: layer, x1: layer, yref: "paper", y0: 0, y1: 1, line: { color: css("--muted"), width: 1, dash: "dot" } }];
    $(id).hidden = !traces.length;
    if (traces.length) Plotly.react(id, traces, layout(title, { shapes, xaxis: { gridcolor: css("--grid"), zeroline: false, tickformat: "d", nticks: Math.min(8, data.layers.length) }, showlegend: true, legend: { orientation: "h", y: -0.25, font: { size: 11 } }, hovermode: "x" }), { ...config, displayModeBar: false });
  };
  one("share", "energy that all users share", [["δ-vectors", set.lines.share, "solid"], ["by chance", set.lines.share_chance, "dash"]]);
  one("auc", "two halves of one author find each other", [["own history", set.lines.auc, "solid"], ["query alone", set.lines.auc_query, "dash"]]);
  one("rank", "directions for 0.8 of the personal energy", [["δ-vectors", set.lines.r80, "solid"], ["permuted users", set.lines.r80_null, "dash"]]);
}

function showUser(set) {
  const box = $("one"), here = set.around[layer][chosen];
  box.replaceChildren(element("div", set.users[chosen], "user"), element("p", `${here.order + 1} of ${set.users.length} from the collective shift`, "note"));
  const list = (texts) => { const ul = element("ul"); texts.forEach((text) => ul.append(element("li", text))); return ul; };
  box.append(list(set.texts[chosen]), element("h2", "Most like them"));
  here.near.slice(0, 3).forEach(([place, cosine]) => { box.append(element("div", `${set.users[place]} (cosine ${cosine.toFixed(2)})`, "user"), list(set.texts[place].slice(0, 2))); });
}

function showTable(set) {
  const around = set.around[layer], order = set.users.map((_, i) => i).sort((a, b) => around[a].order - around[b].order);
  $("rows").replaceChildren(...order.map((i) => {
    const row = element("tr", undefined, i === chosen ? "on" : "");
    row.tabIndex = 0;
    row.append(element("td", set.users[i]), element("td", around[i].distance.toFixed(2), "n"), element("td", set.texts[i].slice(0, 2).join(" · ")));
    row.onclick = () => choose(i);
    row.onkeydown = (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(i); $("rows").querySelector(".on").focus(); } };
    return row;
  }));
}

function choose(place) { chosen = place; const set = data.sets[current]; drawPoints(set); showUser(set); showTable(set); }

function draw() {
  const set = data.sets[current];
  chosen = Math.min(chosen, set.users.length - 1);
  $("layer-name").textContent = `${layer}`;
  $("what").textContent = `${set.task}: ${set.users.length} users, ${set.queries} queries, layer ${layer}. Hover or tap a user, or choose one in the list below, to see what they wrote.`;
  drawLines(set);
  choose(chosen);
}

data.sets.forEach((set, i) => $("set").append(new Option(`${set.task} (${set.group})`, i)));
Object.assign($("layer"), { min: 0, max: data.layers.length - 1, value: data.layers.indexOf(data.layer) });
$("set").onchange = () => { current = Number($("set").value); draw(); };
$("layer").oninput = () => { layer = data.layers[Number($("layer").value)]; draw(); };
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
document.querySelectorAll("[name=theme]").forEach((choice) => { choice.onchange = draw; });
draw();
const pick = (event) => { const place = event.points[0].customdata; if (place !== undefined && place !== chosen) { chosen = place; showUser(data.sets[current]); } };
$("plot").on("plotly_hover", pick);
$("plot").on("plotly_click", (event) => { const place = event.points[0].customdata; if (place !== undefined) choose(place); });
