// Shows one page at a time of a report that is a single file. Needs charts.js; a page's charts are drawn when it is first shown.
(function () {
  "use strict";
  const pages = Array.from(document.querySelectorAll("main > section.page"));

  async function show(name) {
    const page = pages.find((section) => section.dataset.page === name) || pages[0];
    for (const section of pages) section.hidden = section !== page;
    for (const link of document.querySelectorAll("header.top nav a")) {
      if (link.hash === "#page=" + page.dataset.page) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    window.scrollTo(0, 0);
    await window.bestofl.drawAll(page);
  }

  const asked = () => (window.location.hash.startsWith("#page=") ? decodeURIComponent(window.location.hash.slice(6)).split("/")[0] : null);
  const atlas = pages.find((section) => section.dataset.page === "atlas");
  window.addEventListener("hashchange", () => {
    if (asked() !== null) show(asked());
    else if (atlas && atlas.hidden && window.location.hash.length > 1) show("atlas"); // a problem was asked for
  });
  show(asked() !== null ? asked() : window.location.hash.length > 1 ? "atlas" : "index");
})();
