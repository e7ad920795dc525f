// Users as points: near each other where their shifts act alike. Drawn from shifts alone, without names; a point says its name when it is looked at.
import { at } from "./parts.js";
import { asked } from "./server.js";

const WIDTH = 360;
const HEIGHT = 260;
const EDGE = 26;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
let picked = () => {};
let points = [];

function svg(name, attributes, className) {
  const one = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
  if (className) one.setAttribute("class", className);
  return one;
}

const place = ({ x, y }) => [WIDTH / 2 + x * (WIDTH / 2 - EDGE), HEIGHT / 2 - y * (HEIGHT / 2 - EDGE)];

function point(one, number) {
  const [x, y] = place(one);
  const group = svg("g", { role: "option", tabindex: number ? -1 : 0, transform: `translate(${x} ${y})` }, "mine");
  group.append(svg("circle", { r: 15 }, "hit"), svg("circle", { r: 8 }, "dot"), svg("text", { y: 4 }));
  const named = () => { at("pointed").textContent = one.user; };
  group.addEventListener("pointerenter", named);
  group.addEventListener("focus", named);
  group.addEventListener("click", () => pick(one.user));
  group.addEventListener("keydown", (event) => keyed(event, number));
  return { ...one, group, at: [x, y] };
}

function keyed(event, number) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Enter" || event.key === " ") pick(points[number].user);
  else if (event.key === "1" || event.key === "2") pick(points[number].user, event.key === "1" ? "first" : "second");
  else if (event.key === "Home") focus(0);
  else if (event.key === "End") focus(points.length - 1);
  else if (ARROWS[event.key]) focus(towards(number, ARROWS[event.key]));
  else return;
  event.preventDefault();
}

// The nearest point in a direction; where there is none, one goes on in their order.
function towards(number, [dx, dy]) {
  const [x, y] = points[number].at;
  let best = -1;
  let least = Infinity;
  points.forEach((other, n) => {
    const along = (other.at[0] - x) * dx + (other.at[1] - y) * dy;
    const across = Math.abs((other.at[0] - x) * dy) + Math.abs((other.at[1] - y) * dx);
    if (n !== number && along > 0 && along + 2 * across < least) [best, least] = [n, along + 2 * across];
  });
  return best >= 0 ? best : (number + (dx + dy > 0 ? 1 : points.length - 1)) % points.length;
}

function focus(number) {
  points.forEach((one, n) => one.group.setAttribute("tabindex", n === number ? 0 : -1));
  points[number].group.focus();
}

function pick(user, which) {
  const turn = which || (at("picks-first").checked ? "first" : "second");
  picked(turn, user);
  if (!which) at(turn === "first" ? "picks-second" : "picks-first").checked = true; // the next click picks the other
}

export function markPicked() {
  const chosen = { first: at("first").value.trim(), second: at("second").value.trim() };
  for (const { user, group } of points) {
    const said = [];
    for (const which of ["first", "second"]) {
      group.classList.toggle(`is-${which}`, chosen[which] === user);
      if (chosen[which] === user) said.push(which);
    }
    group.querySelector("text").textContent = said.map((which) => (which === "first" ? "1" : "2")).join("");
    group.setAttribute("aria-selected", said.length > 0);
    group.setAttribute("aria-label", `${user}${said.map((which) => `, ${which} user`).join("")}`);
  }
}

export async function showMap(onPick) {
  picked = onPick;
  points = [];
  const section = at("map");
  try {
    const map = await asked("GET", "/v1/map");
    const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "listbox", "aria-label": "Users, by their shifts; arrows move, Enter picks, 1 and 2 pick for the first and the second place", "aria-multiselectable": "true" });
    const [x, y] = place(map.collective);
    drawing.append(svg("path", { d: `M0 ${y}H${WIDTH}M${x} 0V${HEIGHT}` }, "axis"));
    drawing.append(svg("path", { d: `M${x} ${y - 7}l7 7l-7 7l-7 -7z` }, "shared"));
    points = map.points.map(point);
    drawing.append(...points.map((one) => one.group));
    section.classList.toggle("without", points.length === 0);
    at("drawing").replaceChildren(drawing);
    const far = `${Math.round(100 * map.held)} % of what they differ in lies in this plane`;
    at("map-note").textContent = points.length
      ? `Each dot is a user, ◇ the collective shift: near each other where they act alike, drawn from the shifts alone, without any text. ${far}.${map.more ? " The first 300 are shown." : ""}`
      : "No user has a shift here yet.";
    markPicked();
  } catch (fault) {
    section.classList.add("without");
    at("map-note").textContent = `No map: ${fault.message}. Type a name instead.`;
  }
}
