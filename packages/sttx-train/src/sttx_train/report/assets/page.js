(() => {
  const list = document.getElementById("sessions");
  const all = [...list.children];
  const filter = document.getElementById("filter");
  const sort = document.getElementById("sort");
  const fold = document.getElementById("fold");
  const none = document.getElementById("none");
  document.querySelector(".tools").hidden = all.length < 2;
  const texts = new Map();
  const textOf = (one) => {
    if (!texts.has(one)) texts.set(one, one.textContent.toLowerCase());
    return texts.get(one);
  };
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const one of all) {
      one.hidden = !words.every((word) => textOf(one).includes(word));
      shown += one.hidden ? 0 : 1;
    }
    none.hidden = shown > 0;
  });
  sort.addEventListener("click", () => {
    const newest = sort.getAttribute("aria-pressed") !== "true";
    sort.setAttribute("aria-pressed", newest);
    const order = newest ? [...all].sort((a, b) => b.dataset.news - a.dataset.news) : all;
    list.append(...order);
  });
  fold.addEventListener("click", () => {
    const open = fold.getAttribute("aria-pressed") !== "true";
    fold.setAttribute("aria-pressed", open);
    for (const one of all) one.open = open && !one.hidden;
  });
  const reveal = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    const session = target && target.closest("details");
    if (session) {
      session.open = true;
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", reveal);
  reveal();
})();
