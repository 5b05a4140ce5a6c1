(() => {
  const all = JSON.parse(document.getElementById("structures").textContent);
  const panel = document.getElementById("panel");
  let origin = null, chosen = null;
  const node = (tag, text, parent) => {
    const made = document.createElement(tag);
    made.textContent = text;
    parent.append(made);
    return made;
  };
  const close = () => {
    panel.hidden = true;
    chosen?.classList.remove("chosen");
    origin?.focus();
    origin = chosen = null;
  };
  const show = (element, from) => {
    const s = all[element.dataset.s];
    if (!s) return;
    chosen?.classList.remove("chosen");
    chosen = element;
    chosen.classList.add("chosen");
    origin = from;
    panel.replaceChildren();
    node("button", "close (Esc)", panel).onclick = close;
    node("h3", s.name, panel);
    node("code", s.words, panel);
    if (s.means) node("p", s.means, panel);
    if (s.next.length) {
      const list = node("ul", "", panel);
      for (const next of s.next) node("li", next, list);
    }
    const table = node("table", "", panel);
    for (const field of s.fields) {
      const row = node("tr", "", table);
      for (const cell of field) node("td", cell, row);
    }
    panel.hidden = false;
  };
  document.addEventListener("click", (event) => {
    const element = event.target.closest("[data-s]");
    if (element) show(element, element.closest("button,.scroll"));
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !panel.hidden) return close();
    const scroll = event.target.closest?.(".scroll");
    if (!scroll) return;
    const marks = [...scroll.querySelectorAll("[data-s]")];
    const step = { ArrowRight: 1, ArrowLeft: -1, Enter: 0 }[event.key];
    if (step === undefined || !marks.length) return;
    event.preventDefault();
    const at = marks.indexOf(chosen);
    const next = marks[Math.min(marks.length - 1, Math.max(0, at + step))];
    show(next, scroll);
    next.scrollIntoView({ block: "nearest", inline: "center" });
  });
  // A scroll event does not bubble, but it is seen on the way down.
  document.addEventListener("scroll", (event) => {
    const scroll = event.target;
    if (scroll.classList?.contains("scroll"))
      scroll.style.setProperty("--scrolled", scroll.scrollLeft + "px");
  }, true);
  const open = () => {
    const target = document.getElementById(location.hash.slice(1));
    if (target?.tagName === "DETAILS") {
      target.open = true;
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", open);
  open();
})();
