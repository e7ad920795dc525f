// What the shifts changed: the probability of each label, or of each token of an answer, for the base, the collective and the user.
import { at, made, percent, signed } from "./parts.js";
import { asked } from "./server.js";

const SHOWN = 6;

function block(name, around, rows, by) {
  const one = made("section", "block card");
  const title = made("h4");
  title.append(made("span", "around", around[0]), name, made("span", "around", around[1]));
  const list = made("dl");
  for (const row of rows) {
    const line = made("div");
    const who = made("dt", "", row.who);
    who.title = row.who;
    const bar = made("dd", "bar");
    bar.dataset.place = row.place;
    const filled = made("i");
    filled.style.width = `${100 * row.probability}%`;
    bar.append(filled);
    bar.setAttribute("aria-hidden", "true");
    const move = row.place === "base" ? null : by(row.probability, rows[0].probability);
    const far = made("dd", "by", move === null ? "" : move.text);
    if (move !== null && move.far) far.classList.add(move.far > 0 ? "up" : "down");
    line.append(who, bar, made("dd", "share", percent(row.probability)), far);
    list.append(line);
  }
  one.append(title, list);
  return one;
}

function inPoints(now, before) {
  const far = 100 * (now - before);
  return { text: signed(far, 1), far: Math.abs(far) < 0.05 ? 0 : far };
}

function inNats(now, before) {
  const far = Math.log(now) - Math.log(before);
  return { text: signed(far, 2), far: Math.abs(far) < 0.005 ? 0 : far };
}

function section(title, blocks) {
  const grid = made("div", "blocks");
  grid.append(...blocks);
  return title ? [made("h3", "", title), grid] : [grid];
}

function show(note, parts) {
  at("moved").hidden = false;
  at("moved-note").textContent = note;
  at("blocks").replaceChildren(...parts);
}

export function hideMoved() {
  at("moved").hidden = true;
}

// Labels: `people` are {who, place, labels}, the base first.
export function showLabels(people) {
  const known = people.filter((one) => one.labels);
  if (known.length < 2 || known[0].place !== "base") return;
  const tables = known.map((one) => new Map(one.labels.map((each) => [each.label, each.probability])));
  const far = (label) => Math.max(...tables.map((table) => Math.abs(table.get(label) - tables[0].get(label))));
  const chosen = new Set(tables.map((table) => [...table.entries()].reduce((a, b) => (b[1] > a[1] ? b : a))[0]));
  const order = [...tables[0].keys()].sort((a, b) => far(b) - far(a));
  for (const label of order) if (chosen.size < SHOWN) chosen.add(label);
  const shown = order.filter((label) => chosen.has(label));
  const blocks = shown.map((label) => block(label, ["", ""], known.map((one, n) => ({ ...one, probability: tables[n].get(label) })), inPoints));
  const left = tables[0].size - shown.length;
  show(`The labels that moved most, in points against the base${left ? `; ${left} others moved less` : ""}.`, section("", blocks));
}

// Texts: each user's answer is scored by the base and the collective too.
export async function showTokens(answers, question, signal) {
  const parts = [];
  for (const { who, place, text } of answers) {
    const owners = [{ who: "base", place: "base" }, ...(who === "collective" ? [] : [{ who: "collective", place: "collective" }]), { who, place }];
    const scores = await Promise.all(owners.map((one) => asked("POST", "/v1/answers/score", { user: one.who, answer: text, ...question }, signal)));
    const tokens = scores.map((one) => one.tokens);
    const by = tokens[0].map((token, n) => tokens[tokens.length - 1][n].logprob - token.logprob);
    const most = [...by.keys()].sort((a, b) => Math.abs(by[b]) - Math.abs(by[a])).slice(0, SHOWN).sort((a, b) => a - b);
    const whole = made("p", "tokens");
    whole.append(...tokens[0].map((token, n) => {
      const one = made("span", Math.abs(by[n]) < 0.005 ? "" : by[n] > 0 ? "up" : "down", token.text);
      one.style.setProperty("--far", `${Math.round(25 + 75 * Math.min(Math.abs(by[n]) / 3, 1))}%`);
      one.title = `${signed(by[n], 2)} against the base`;
      return one;
    }));
    const around = (n, from, to) => tokens[0].slice(Math.max(n + from, 0), Math.max(n + to, 0)).map((token) => token.text).join("");
    const blocks = most.map((n) => block(
      tokens[0][n].text, [around(n, -3, 0), around(n, 1, 3)],
      owners.map((one, which) => ({ ...one, probability: Math.exp(tokens[which][n].logprob) })), inNats));
    const [title, grid] = section(`Of the answer for ${who}`, blocks);
    parts.push(title, whole, grid);
  }
  if (parts.length) show("The tokens whose log-probability moved most, in nats against the base: the same answer, as likely as each finds it.", parts);
}
