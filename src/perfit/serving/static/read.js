// The prompt as the base read it, the edited tokens marked.
import { at, made } from "./parts.js";

export function showRead(answers) {
  const known = answers.filter((one) => one && one.perfit && one.perfit.prompt);
  at("read").hidden = !known.length;
  if (!known.length) return;
  // The tokens are the same for all; which are edited is the run's rule, and none is for the base.
  const one = known.find((each) => each.perfit.edited.length) || known[0];
  const { prompt, edited, positions, prompt_tokens: count } = one.perfit;
  const inside = (token) => edited.some(([first, behind]) => token >= first && token < behind);
  let token = 0;
  at("pieces").replaceChildren(...prompt.map((piece) => {
    const touched = Array.from({ length: piece.tokens }, (_, n) => token + n).some(inside);
    const shown = made(touched ? "mark" : "span", "", piece.text);
    shown.title = `token ${token}${touched ? ", edited" : ""}`;
    token += piece.tokens;
    return shown;
  }));
  const touched = edited.reduce((sum, [first, behind]) => sum + behind - first, 0);
  const note = at("read-note");
  if (touched) {
    const mark = made("span", "key", "marked");
    note.replaceChildren(`${count} tokens, ${touched} of them edited by the rule ${positions}: `, mark, ". None is edited for the base, and no token of an answer ever is.");
  } else {
    note.textContent = `${count} tokens, none of them edited.`;
  }
  const first = at("pieces").querySelector("mark");
  if (first) at("pieces").scrollTop = at("pieces").scrollHeight;
}
