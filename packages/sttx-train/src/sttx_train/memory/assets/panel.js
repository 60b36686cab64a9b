
// The memory: whether it is active, and the last question with and without it.
function line(parent, tag, text, style) {
  const one = document.createElement(tag);
  one.textContent = text.replace(hidden, "\ufffd");
  if (style) one.className = style;
  parent.append(one);
  return one;
}

async function checkMemory() {
  const state = at("memory-state"), list = at("memory-checks");
  state.className = "loading";
  state.textContent = "checking";
  list.replaceChildren();
  try {
    const response = await fetch("v1/memory/health", { headers: headers() });
    if (!response.ok) throw await failure(response);
    const health = await response.json();
    state.className = health.active ? "ok" : "gone";
    state.textContent = health.active ? "active" : "not active";
    for (const check of health.checks) line(list, "li", (check.passed ? "✓ " : "✗ ") + check.detail, check.passed ? "" : "failed");
  } catch (error) {
    state.className = "gone";
    state.textContent = error.message;
  }
}

async function compareMemory(text) {
  const place = at("memory-answers");
  place.replaceChildren();
  const body = JSON.stringify({ model: chosen(), messages: [...messages, { role: "user", content: text }], temperature: 0 });
  try {
    const response = await fetch("v1/memory/compare", { method: "POST", headers: headers(), body });
    if (!response.ok) throw await failure(response);
    const found = await response.json();
    for (const [name, said] of [["With memory", found.with_memory], ["Without", found.without_memory]]) {
      const box = line(place, "div", "");
      line(box, "b", name);
      line(box, "p", said.text);
    }
    line(place, "small", found.written + " tokens in the memory; it changes the first token by " + found.divergence.toFixed(3) + " bits");
  } catch (error) {
    line(place, "p", error.message, "failed");
  }
}

at("memory-check").addEventListener("click", checkMemory);
at("memory-ask").addEventListener("submit", (event) => {
  event.preventDefault();
  compareMemory(at("memory-prompt").value.trim());
});
