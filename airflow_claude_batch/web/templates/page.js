// Keeps a page up to date, and lets it live inside Airflow's UI. Without it, every page still works.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");

  // Airflow's UI around this page, if it is shown in one.
  const outer = (() => {
    try {
      return window.parent !== window && window.parent.document ? window.parent : null;
    } catch {
      return null; // another site
    }
  })();

  function followTheme() {
    const classes = outer.document.documentElement.classList;
    const theme = ["dark", "light"].find((name) => classes.contains(name));
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
  }
  if (outer) {
    followTheme();
    new MutationObserver(followTheme).observe(outer.document.documentElement, { attributeFilter: ["class"] });
  }

  // On Airflow 3.0 the browser sends no cookie: the server answers with a shell, and the UI's token gets the page.
  const needsToken = document.querySelector("[data-shell]") !== null;

  function token() {
    try {
      // Airflow's UI moves the token from a cookie to its storage when it is loaded.
      const stored = localStorage.getItem("token") ?? /(?:^|; )_token=([^;]*)/.exec(document.cookie)?.[1] ?? "";
      return stored.startsWith('"') ? JSON.parse(stored) : stored;
    } catch {
      return "";
    }
  }

  function request(url, options = {}) {
    const headers = { Accept: "text/html", ...options.headers };
    if (needsToken) headers.Authorization = `Bearer ${token()}`;
    return fetch(url, { credentials: "same-origin", cache: "no-store", ...options, headers });
  }

  const parse = (text) => new DOMParser().parseFromString(text, "text/html");

  function show(page) {
    document.title = page.title;
    document.body.replaceWith(document.adoptNode(page.body));
    schedule();
  }

  // What the user has opened or typed, by an id, a name, or the text of the summary.
  const keyOf = (element) =>
    element.id || element.name || element.querySelector("summary")?.textContent.trim() || element.className;

  function remember(element) {
    const opened = new Map([...element.querySelectorAll("details")].map((each) => [keyOf(each), each.open]));
    const typed = new Map(
      [...element.querySelectorAll("input, select, textarea")].map((each) => [keyOf(each), each.value]),
    );
    const scrolled = [...element.querySelectorAll("[data-scroll]")].map((each) => [each.scrollLeft, each.scrollTop]);
    const active = document.activeElement;
    const focused = element.contains(active) ? keyOf(active) : "";
    const caret = [active.selectionStart, active.selectionEnd];
    const [x, y] = [window.scrollX, window.scrollY];
    return (fresh) => {
      for (const each of fresh.querySelectorAll("details")) each.open = opened.get(keyOf(each)) ?? each.open;
      for (const each of fresh.querySelectorAll("input, select, textarea"))
        if (each.type !== "hidden") each.value = typed.get(keyOf(each)) ?? each.value;
      [...fresh.querySelectorAll("[data-scroll]")].forEach((each, i) => each.scrollTo(...(scrolled[i] ?? [0, 0])));
      const again = focused && [...fresh.querySelectorAll("[id], [name]")].find((each) => keyOf(each) === focused);
      if (again) again.focus({ preventScroll: true });
      if (again && Number.isInteger(caret[0])) again.setSelectionRange(...caret);
      window.scrollTo(x, y);
    };
  }

  // A character of several keys, such as an accent or a Chinese one, is half typed.
  let isComposing = false;
  document.addEventListener("compositionstart", () => (isComposing = true));
  document.addEventListener("compositionend", () => (isComposing = false));

  // Do not pull away what the user reads: a selection, a question.
  function isBusy(element) {
    const selection = window.getSelection();
    const selects = selection && !selection.isCollapsed && element.contains(selection.anchorNode);
    return selects || isComposing || document.querySelector("dialog[open]") !== null;
  }

  let timer = 0;
  let failures = 0;

  function schedule() {
    clearTimeout(timer);
    const seconds = Number(document.querySelector("[data-live]")?.dataset.live);
    say(seconds ? "live" : "");
    if (seconds) timer = setTimeout(refresh, 1000 * Math.min(seconds * 2 ** failures, 120));
  }

  function say(text, problem = false) {
    const status = document.querySelector("[data-live-status]");
    if (!status) return;
    status.textContent = text;
    status.toggleAttribute("data-on", Boolean(text) && !problem);
    status.toggleAttribute("data-problem", problem);
  }

  async function refresh() {
    const old = document.querySelector("[data-live]");
    if (!old || document.hidden || isBusy(old)) return schedule();
    try {
      const response = await request(location.href);
      if (!response.ok) throw new Error(response.status === 401 ? "signed out" : `answer ${response.status}`);
      const page = parse(await response.text());
      const fresh = page.querySelector("[data-live]");
      if (!fresh) throw new Error("signed out");
      failures = 0;
      const restore = remember(old);
      old.replaceWith(document.adoptNode(fresh));
      restore(fresh);
      schedule();
    } catch (error) {
      failures = Math.min(failures + 1, 6);
      schedule();
      say(`not updated: ${error.message}`, true);
    }
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && timer) refresh();
  });

  // Links to Airflow's own pages: the frame cannot leave itself, so the page around it goes there.
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-airflow]");
    if (!link || !outer || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    outer.history.pushState(null, "", link.href);
    outer.dispatchEvent(new PopStateEvent("popstate"));
  });

  // The frame may open no new tabs, but a click on a link of the page around it may.
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-external]");
    if (!link || !outer) return;
    event.preventDefault();
    const copy = outer.document.createElement("a");
    Object.assign(copy, { href: link.href, target: "_blank", rel: "noreferrer noopener" });
    copy.click();
  });

  // Filters apply at once, and leave what is empty out of the address.
  document.addEventListener("change", (event) => event.target.closest("form[data-auto]")?.requestSubmit());
  document.addEventListener("formdata", (event) => {
    if (event.target.method !== "get") return;
    for (const [name, value] of [...event.formData]) if (value === "") event.formData.delete(name);
  });

  // Actions. The server takes them from this script only: no other site can send its header.
  async function act(form, submitter) {
    const body = new URLSearchParams(new FormData(form, submitter));
    const headers = { "X-Claude-Batch-Action": "1" };
    const response = await request(form.action, { method: "POST", body, headers });
    if (response.url) history.replaceState(null, "", response.url);
    show(parse(await response.text()));
  }

  // Actions that Airflow's own REST API does.
  async function callAirflow(form) {
    const headers = { Accept: "application/json", "Content-Type": "application/json" };
    const { airflowApi, body, next } = form.dataset;
    const response = await request(airflowApi, { method: "POST", body, headers });
    if (response.ok) return location.assign(next);
    const { detail } = await response.json().catch(() => ({}));
    const reason = typeof detail === "string" ? detail : `answer ${response.status}`;
    throw new Error(response.status === 403 ? "You may not do this." : `Airflow refused: ${reason}`);
  }

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (form.method !== "post") return;
    event.preventDefault();
    if (event.submitter) event.submitter.disabled = true; // no second click
    try {
      await (form.dataset.airflowApi ? callAirflow(form) : act(form, event.submitter));
    } catch (error) {
      if (event.submitter) event.submitter.disabled = false;
      const problem = form.querySelector("[data-problem]");
      if (problem) problem.textContent = error.message;
    }
  });

  async function fillShell() {
    const response = token() ? await request(location.href) : { status: 401 };
    if (response.status !== 401) return show(parse(await response.text()));
    document.querySelector("[data-shell]").hidden = true;
    document.querySelector("[data-sign-in]").hidden = false;
  }

  if (needsToken) fillShell();
  else schedule();
})();
