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
  // Paper does not scroll: it gets a timeline in rows, each a window on the one of the screen.
  const draw = (tag, attributes, parent) => {
    const space = document.querySelector("svg").namespaceURI;
    const made = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    parent.append(made);
    return made;
  };
  const rows = () => {
    document.querySelectorAll(".rows").forEach((old) => old.remove());
    document.querySelectorAll("svg.timeline").forEach((svg, n) => {
      const scroll = svg.closest(".scroll");
      if (scroll.closest("details:not([open])")) return;
      const [left, width, height] = ["left", "width", "height"].map(
        (name) => +(svg.dataset[name] ?? svg.getAttribute(name)));
      // 64 columns of a run; no mark of it is cut.
      const wide = width - left > 1100 ? 896 : width - left;
      const names = [...scroll.querySelectorAll(".names span")].map((span) => span.textContent);
      const all = node("div", "", scroll.parentElement);
      all.className = "rows";
      scroll.after(all);
      svg.id = "timeline" + n;
      for (let from = left; from < width; from += wide) {
        const row = draw("svg", { viewBox: `0 0 ${left + wide} ${height}` }, all);
        names.forEach((name, lane) => {
          draw("text", { x: 4, y: 38 + 26 * lane }, row).textContent = name;
        });
        const part = draw("svg", { x: left, width: wide, height, viewBox: `${from} 0 ${wide} ${height}` }, row);
        draw("use", { href: "#" + svg.id }, part);
      }
    });
  };
  addEventListener("beforeprint", rows);
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
